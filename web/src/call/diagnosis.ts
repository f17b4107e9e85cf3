/**
 * Says in plain sentences what makes a call bad, and what to do about it. Pure.
 *
 * What weighs more comes first. Weights are points of the transmission rating R of ITU-T G.107 that the fault costs, so that
 * faults of different kinds can be compared; ten points are one class of its table B.1 ("satisfied" → "some users
 * dissatisfied"), and what costs less isn't told.
 *
 * - Loss: 95 · P / (P + 25.1), ITU-T G.107 equation 7-29, with the robustness 25.1 of ITU-T G.113 appendix I (concealment,
 *   random loss). 3 % cost ten points.
 * - Delay from mouth to ear: 0.024 · d + 0.11 · (d - 177.3), Cole and Rosenbluth's line through ITU-T G.107. ITU-T G.114 calls
 *   up to 150 ms one way fine, and more than 400 ms unacceptable; ten points are lost at 220 ms.
 * - Jitter: from 50 ms on, the bound of class 0 of ITU-T Y.1541.
 * - Pictures have no place in G.107. A freeze costs as much as the loss that takes the same share of the time, and ten
 *   points at least.
 */
import type { Link, Measured, Other, Path, Receiving } from "./measured";

export interface Finding {
  /** Stays the same while the fault does, whatever its figures. */
  key: string;
  /** Whose fault it is: "me", or the identity of somebody else. */
  about: string;
  /** Something to know rather than something wrong. */
  note: boolean;
  weight: number;
  what: string;
  advice: string;
}

const noticeable = 10;
const jitterBound = 50;
/** Capture, coding and playing take about this long besides, in ms. */
const deviceDelay = 60;
/** A jitter buffer holds about twice the jitter. */
const bufferDepth = 2;
/** A limit that held for half of the time is the limit, once it has held for some seconds: at the start, senders begin low and climb. */
const mostly = 0.5;
const limitHolds = 5;

export function lossImpairment(loss: number): number {
  const percent = 100 * Math.min(Math.max(loss, 0), 1);
  return (95 * percent) / (percent + 25.1);
}

export function delayImpairment(ms: number): number {
  return 0.024 * ms + 0.11 * Math.max(0, ms - 177.3);
}

/** At most three findings, the gravest first; none when everything is well. `name` says what somebody is called. */
export function diagnose(m: Measured, name: (identity: string) => string): Finding[] {
  const mine = ownFindings(m, name);
  const findings = [...mine, ...m.others.flatMap((other) => findingsOf(other, m, name(other.identity)))];
  if (mine.every((f) => f.note) && m.quality === "poor") {
    findings.push({
      key: "weak",
      about: "me",
      note: false,
      weight: noticeable,
      what: "Your connection was weak a moment ago.",
      advice: "If it happens again, look here while it does.",
    });
  }
  return findings.sort((a, b) => Number(a.note) - Number(b.note) || b.weight - a.weight).slice(0, 3);
}

function ownFindings(m: Measured, name: (identity: string) => string): Finding[] {
  const found: Finding[] = [];
  const add = (key: string, weight: number, what: string, advice: string, note = false): void => {
    if (note || weight >= noticeable) found.push({ key, about: "me", note, weight, what, advice });
  };
  const net = networkOf(m);
  const lossy = (link: Link): boolean => lossImpairment(link.loss ?? 0) >= noticeable;
  const up = lossy(m.up);
  const down = lossy(m.down);
  if (up || down) {
    const what =
      up && down
        ? `${net.subject} loses ${percent(m.up.loss)} of what you send and ${percent(m.down.loss)} of what you receive.`
        : up
          ? `${net.subject} loses ${percent(m.up.loss)} of what you send.`
          : `${net.subject} loses ${percent(m.down.loss)} of what is sent to you.`;
    add(up && down ? "loss" : up ? "loss-up" : "loss-down", lossImpairment(Math.max(m.up.loss ?? 0, m.down.loss ?? 0)), what, net.advice);
  }
  if (!up && !down) {
    const jitter = Math.max(m.up.jitterMs ?? 0, m.down.jitterMs ?? 0);
    if (jitter >= jitterBound) {
      add("jitter", Math.max(noticeable, delayImpairment(bufferDepth * jitter)), `${net.subject} is uneven: sound and picture come up to ${Math.round(jitter)} ms late.`, net.advice);
    }
  }
  const delay = worstDelay(m);
  if (delay && (m.rttMs ?? 0) >= (delay.other.rttMs ?? 0)) {
    add("delay", delayImpairment(delay.ms), `Your connection is slow: it takes ${seconds(delay.ms)} until ${name(delay.other.identity)} hears you.`, "A VPN or a mobile network can cause this: try without it. Short pauses help not to talk at the same time.");
  }
  const sends = [m.camera, m.screen].filter((s) => s !== null);
  const limits = (share: number): boolean => share >= mostly && share * m.seconds >= limitHolds;
  if (sends.some((s) => limits(s.cpuLimited))) {
    add("cpu-send", 25, "Your device is too busy to send a good picture.", "Close other programs and browser tabs, or turn off effects of your camera.");
  }
  const busy = (o: Other): boolean => [o.camera, o.screen].some((v) => v !== null && tooBusy(v, down || lossy(o.up)));
  if (m.others.some(busy)) {
    add("cpu-receive", 24, "Your device is too busy to show the others smoothly.", "Close other programs and browser tabs, or make this window smaller.");
  }
  if (!up && sends.some((s) => limits(s.bandwidthLimited))) {
    const rate = m.up.availableBps;
    const little = rate !== null && rate < 500_000;
    add("bandwidth-up", little ? 20 : 12, rate === null ? "Your upload is too slow for a sharp picture." : `Your upload is too slow for a sharp picture: it takes ${bitrate(rate)}.`, `Pause uploads and backups on this network${little ? ", or turn your camera off: your voice goes first" : ""}.`);
  }
  if (!down && m.others.some((o) => [o.camera, o.screen].some((v) => v?.why === "bandwidth"))) {
    add("bandwidth-down", 20, m.down.availableBps === null ? "Your download is too slow for everybody’s video." : `Your download is too slow for everybody’s video: it takes ${bitrate(m.down.availableBps)}.`, "Pause downloads and streams on this network. Voices are sent first, so they keep coming.");
  }
  if (!down && m.others.some((o) => o.camera !== null && frozen(o.camera) && !busy(o) && o.camera.serverFreezes === 0 && !lossy(o.up))) {
    const worst = Math.max(...m.others.map((o) => o.camera?.frozenShare ?? 0));
    add("freezes", freezeWeight(worst), "Video stops now and then on its way from the server to you.", "Pause downloads and streams on this network, or move closer to the router.");
  }
  const path = worsePath(m.up.path, m.down.path);
  const udp = "If it stays bad, try another network, or ask who runs this one to let UDP through.";
  if (path === "tcp") add("tcp", 8, "The call goes over TCP because the network blocks UDP. What gets lost then holds up all that follows.", udp, true);
  if (path === "relay-tcp") add("relay-tcp", 8, "The call goes through a relay over TCP because the network blocks direct calls. What gets lost then holds up all that follows.", udp, true);
  if (path === "relay") add("relay", 5, "The call goes through a relay because the network blocks direct calls. That makes it a little slower.", "There is nothing that you need to do. On another network the call may go directly.", true);
  return found;
}

function findingsOf(other: Other, m: Measured, who: string): Finding[] {
  const found: Finding[] = [];
  const add = (key: string, weight: number, what: string, advice: string): void => {
    if (weight >= noticeable) found.push({ key: `${key} ${other.identity}`, about: other.identity, note: false, weight, what, advice });
  };
  if (other.quality === "lost") {
    add("lost", 90, `${who} has lost the connection.`, "It isn’t your network. They come back by themselves if theirs does within half a minute.");
    return found;
  }
  const loss = lossImpairment(other.up.loss ?? 0);
  const theirs = "It isn’t your network. They could move closer to their router, or use a cable.";
  if (loss >= noticeable) {
    add("loss", loss, `${who}’s connection is weak: ${percent(other.up.loss)} of what they send gets lost, so their voice and video come with gaps.`, theirs);
  } else if ((other.camera?.serverFreezes ?? 0) >= 2 && other.camera) {
    add("freezes", Math.max(noticeable, freezeWeight(other.camera.frozenShare)), `${who}’s video stops before it reaches the server.`, "It isn’t your network. Their upload or their device is too busy.");
  } else if ((other.up.jitterMs ?? 0) >= jitterBound) {
    add("jitter", Math.max(noticeable, delayImpairment(bufferDepth * (other.up.jitterMs ?? 0))), `${who}’s connection is uneven: what they send comes up to ${Math.round(other.up.jitterMs ?? 0)} ms late.`, theirs);
  } else if (other.quality === "poor") {
    add("weak", noticeable + 2, `${who}’s connection is weak.`, theirs);
  }
  const delay = worstDelay(m);
  if (delay?.other === other && (other.rttMs ?? 0) > (m.rttMs ?? 0)) {
    add("delay", delayImpairment(delay.ms), `${who}’s connection is slow: it takes ${seconds(delay.ms)} until you hear them.`, "It isn’t your network. Short pauses help not to talk at the same time.");
  }
  return found;
}

/** From mouth to ear with whoever is farthest away, when both ways are known. */
function worstDelay(m: Measured): { ms: number; other: Other } | null {
  let worst: { ms: number; other: Other } | null = null;
  for (const other of m.others) {
    if (m.rttMs === null && other.rttMs === null) continue;
    const ms = (m.rttMs ?? 0) / 2 + (other.rttMs ?? 0) / 2 + deviceDelay;
    if (!worst || ms > worst.ms) worst = { ms, other };
  }
  return worst;
}

const frozen = (v: Receiving): boolean => v.freezes >= 2 || v.frozenShare >= 0.05;
/** Pictures are dropped for want of packets, too: where those get lost, only the time for decoding tells. */
const tooBusy = (v: Receiving, lossy: boolean): boolean => v.decoding >= 0.8 || (!lossy && v.dropped >= 0.1);
const freezeWeight = (share: number): number => Math.max(noticeable, lossImpairment(share));

function networkOf(m: Measured): { subject: string; advice: string } {
  switch (m.network) {
    case "wifi":
      return { subject: "Your Wi-Fi", advice: "Move closer to the router, or use a cable." };
    case "cellular":
      return { subject: "Your mobile network", advice: "Go where reception is better, or use Wi-Fi." };
    case "wired":
      return { subject: "Your network", advice: "Pause downloads and uploads on it, and restart the router if it goes on." };
    default:
      return { subject: "Your network", advice: "If you are on Wi-Fi, move closer to the router or use a cable." };
  }
}

const order: readonly Path[] = ["direct", "relay", "tcp", "relay-tcp"];

function worsePath(a: Path | null, b: Path | null): Path | null {
  if (a === null || b === null) return a ?? b;
  return order.indexOf(a) > order.indexOf(b) ? a : b;
}

/** 0.083 → "8 %". */
export function percent(share: number | null): string {
  if (share === null) return "–";
  const value = 100 * share;
  return `${value > 0 && value < 1 ? "<1" : Math.round(value).toString()} %`;
}

/** 1_240_000 → "1.2 Mbit/s"; 84_000 → "84 kbit/s". */
export function bitrate(bps: number | null): string {
  if (bps === null) return "–";
  if (bps >= 999_500) return `${(bps / 1e6).toFixed(1)} Mbit/s`;
  return `${Math.round(bps / 1000)} kbit/s`;
}

const seconds = (ms: number): string => (ms >= 950 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 10) * 10} ms`);
