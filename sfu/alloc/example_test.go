package alloc_test

import (
	"fmt"
	"time"

	"anytime/sfu/alloc"
)

// A subscriber watches a shared screen, two cameras and listens to a microphone while its estimate falls and recovers.
func Example() {
	a := alloc.New(alloc.Config{})

	var simulcast alloc.Layers
	for i, bitrate := range []uint32{150e3, 500e3, 1700e3} {
		simulcast[i] = alloc.Layer{Width: 320 << i, Height: 180 << i}
		simulcast[i].Temporal[0] = alloc.Cell{Bitrate: bitrate, FPS: 30, Live: true}
	}
	var opus alloc.Layers
	opus[0].Temporal[0] = alloc.Cell{Bitrate: 32e3, Live: true}

	names := map[*alloc.Subscription]string{}
	add := func(name string, in alloc.Input) {
		s, err := a.Add(in)
		if err != nil {
			fmt.Println(err)
			return
		}
		names[s] = name
	}
	add("microphone", alloc.Input{Kind: alloc.Audio, Layers: opus})
	for _, name := range []string{"ann", "bob"} {
		add(name, alloc.Input{Kind: alloc.Video, Width: 640, Height: 360, Layers: simulcast})
	}
	add("screen", alloc.Input{Kind: alloc.Video, Source: alloc.SourceOf(true, false, 0, 0), Quality: 2, Layers: simulcast})

	var changed []*alloc.Subscription
	for _, at := range []struct {
		now      time.Duration
		estimate int64
	}{{0, 4e6}, {time.Second, 2e6}, {2 * time.Second, 4e6}, {3 * time.Second, 4e6}} {
		changed = a.Update(at.now, at.estimate, changed[:0])
		sum := a.Summary()
		fmt.Printf("%v: %d of %d kbit/s, %d paused, probe for %d more\n", at.now, sum.Used/1000, at.estimate/1000, sum.Paused, sum.Need/1000)
		for _, s := range changed {
			r := s.Result()
			if r.Target == alloc.None {
				fmt.Printf("  %s: nothing (%v)\n", names[s], r.Why)
				continue
			}
			fmt.Printf("  %s: layer %d (%v)\n", names[s], r.Target.Spatial, r.Why)
		}
	}
	// Output:
	// 0s: 2732 of 4000 kbit/s, 0 paused, probe for 0 more
	//   microphone: layer 0 (full)
	//   ann: layer 1 (size)
	//   bob: layer 1 (size)
	//   screen: layer 2 (full)
	// 1s: 1882 of 2000 kbit/s, 1 paused, probe for 390 more
	//   ann: layer 0 (bandwidth)
	//   bob: nothing (bandwidth)
	// 2s: 2032 of 4000 kbit/s, 0 paused, probe for 0 more
	//   bob: layer 0 (bandwidth)
	// 3s: 2032 of 4000 kbit/s, 0 paused, probe for 0 more
}
