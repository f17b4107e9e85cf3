/** Camera, microphone and speaker before a call: preview, level, test tone, and help where the browser refuses. */
import { useCallback, useEffect, useRef, useState } from "react";
import type { DeviceProblem } from "../../call/room";
import { problemOf } from "../../media/devices";
import { watchLevel } from "../../media/level";
import { useApp, useStore } from "../hooks";
import { Button } from "../components/controls";
import { DevicePicker, Meter } from "../components/DevicePicker";
import { Icon } from "../components/Icon";
import { problemInWords } from "../problems";

export function DeviceTest({ playTone }: { playTone: () => void }) {
  const { devices, preferences } = useApp();
  const { camera, microphone, originalSound } = useStore(preferences);
  const [on, setOn] = useState(false);
  const [stream, setStream] = useState<MediaStream | null>(null);
  const [problem, setProblem] = useState<DeviceProblem | null>(null);
  const video = useRef<HTMLVideoElement>(null);
  useEffect(() => {
    if (!on) return;
    let current = true;
    let opened: MediaStream | null = null;
    const open = async (): Promise<void> => {
      try {
        opened = await navigator.mediaDevices.getUserMedia({
          audio: { ...(microphone ? { deviceId: { ideal: microphone } } : {}), noiseSuppression: !originalSound },
          video: camera ? { deviceId: { ideal: camera } } : true,
        });
      } catch (error) {
        if (current) setProblem(problemOf(error));
        return;
      }
      if (!current) {
        stop(opened);
        return;
      }
      setProblem(null);
      setStream(opened);
      void devices.refresh(); // names are known once access was allowed
    };
    void open();
    return () => {
      current = false;
      stop(opened);
      setStream(null);
    };
  }, [on, camera, microphone, originalSound, devices]);
  useEffect(() => {
    if (video.current) video.current.srcObject = stream;
  }, [stream]);
  const watch = useCallback((onLevel: (level: number) => void) => (stream ? watchLevel(stream, onLevel) : () => {}), [stream]);
  return (
    <div className="device-test">
      <div className="device-preview" data-on={stream !== null || undefined}>
        <video ref={video} autoPlay playsInline muted aria-label="Your camera" />
        {!stream && (
          <div className="device-preview-empty">
            <Icon name={on && problem ? "cameraOff" : "camera"} size={30} />
            <Button busy={on && !problem} onClick={() => setOn(true)} data-testid="test-devices">
              Try camera and microphone
            </Button>
          </div>
        )}
        {stream && (
          <Button className="device-preview-stop" onClick={() => setOn(false)}>
            Stop
          </Button>
        )}
      </div>
      {problem && (
        <p className="problem" role="alert">
          <Icon name="alert" size={18} />
          <span>{problemInWords("camera", problem)}</span>
        </p>
      )}
      <DevicePicker meter={stream ? <Meter watch={watch} label="Microphone level" /> : undefined} />
      <Button icon="speaker" onClick={playTone}>
        Play a test sound
      </Button>
    </div>
  );
}

function stop(stream: MediaStream | null): void {
  for (const track of stream?.getTracks() ?? []) track.stop();
}
