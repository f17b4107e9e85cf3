/** "Why is my call bad?": what is wrong in sentences, and the figures behind them. */
import { useEffect, useState } from "react";
import { bitrate, diagnose, percent, type Finding } from "../../call/diagnosis";
import { measure, type Link, type Measured, type Other, type Path, type Picture, type Receiving } from "../../call/measured";
import type { CallSession } from "../../call/session";
import { nameOf } from "../../call/words";
import { useStore } from "../hooks";
import { Button, IconButton } from "../components/controls";
import { Dialog } from "../components/Dialog";
import { Icon } from "../components/Icon";
import type { Shown } from "./people";

export function WhyBad({ session, people, onClose }: { session: CallSession; people: readonly Shown[]; onClose: () => void }) {
  const { quality } = session;
  const [round, setRound] = useState(0);
  useEffect(() => quality.start(), [quality, round]);
  const watched = useStore(quality.state);
  const name = (identity: string): string => {
    const shown = people.find((p) => p.participant.identity === identity);
    return shown ? nameOf(shown) : "Somebody";
  };
  const measured = watched.phase === "ready" ? measure(people.map((p) => p.participant), watched.samples, watched.answers) : null;
  const findings = measured ? diagnose(measured, name) : [];
  return (
    <Dialog label="Why is my call bad?" className="sheet why" onClose={onClose} testid="why-bad">
      <header className="dialog-head">
        <h2>Why is my call bad?</h2>
        <IconButton label="Close" icon="close" onClick={onClose} />
      </header>
      <Spoken findings={findings} phase={watched.phase} />
      {watched.phase === "loading" && (
        <p className="why-state" data-testid="why-loading">
          <span className="spinner" aria-hidden="true" /> Measuring for a few seconds…
        </p>
      )}
      {watched.phase === "failed" && (
        <div className="why-state" data-testid="why-failed">
          <Icon name="alert" size={22} />
          <p>Nothing can be measured just now. The connection may be coming back.</p>
          <Button tone="primary" onClick={() => setRound(round + 1)}>
            Try again
          </Button>
        </div>
      )}
      {measured && findings.length === 0 && (
        <p className="why-state fine" data-testid="why-fine">
          <span className="why-icon">
            <Icon name="check" size={22} />
          </span>
          <span>
            <strong>Everything looks fine</strong>
            <span>{measured.others.length === 0 ? "Your connection is good." : "Your connection is good, and so are the others’."}</span>
          </span>
        </p>
      )}
      {findings.length > 0 && (
        <ul className="findings">
          {findings.map((f) => (
            <li key={f.key} className="finding" data-testid="finding" data-key={f.key} data-about={f.about} data-note={f.note || undefined}>
              <span className="why-icon">
                <Icon name={f.note ? "link" : "alert"} size={20} />
              </span>
              <div>
                <strong>{f.what}</strong>
                <p>{f.advice}</p>
              </div>
            </li>
          ))}
        </ul>
      )}
      {measured && <Figures measured={measured} name={name} serverMissing={watched.serverMissing} />}
    </Dialog>
  );
}

/** Says what is found, and again only when something else is: not whenever a figure changes. */
function Spoken({ findings, phase }: { findings: readonly Finding[]; phase: string }) {
  const keys = `${phase} ${findings.map((f) => f.key).join()}`;
  const text = phase !== "ready" ? "" : findings.length === 0 ? "Everything looks fine." : findings.map((f) => `${f.what} ${f.advice}`).join(" ");
  const [said, setSaid] = useState({ keys: "", text: "" });
  if (said.keys !== keys) setSaid({ keys, text });
  return (
    <p className="visually-hidden" aria-live="polite">
      {said.text}
    </p>
  );
}

const columns = ["Loss", "Round trip", "Jitter", "Bitrate", "Picture", "Path", "Freezes"] as const;

function Figures({ measured: m, name, serverMissing }: { measured: Measured; name: (identity: string) => string; serverMissing: boolean }) {
  return (
    <section className="figures" aria-label="Figures">
      <table role="table" data-testid="figures">
        <thead role="rowgroup">
          <tr role="row">
            <th role="columnheader" scope="col">
              <span className="visually-hidden">Way</span>
            </th>
            {columns.map((c) => (
              <th key={c} role="columnheader" scope="col">
                {c}
              </th>
            ))}
          </tr>
        </thead>
        <tbody role="rowgroup">
          <Row testid="figures-up" label="You → server" cells={[...way(m.up, m.rttMs), picture(m.camera ?? m.screen), path(m.up.path), ""]} bad={m.up} />
          <Row testid="figures-down" label="Server → you" cells={[...way(m.down, m.rttMs), "", path(m.down.path), ""]} bad={m.down} />
          {m.others.map((o) => (
            <Row key={o.identity} testid="figures-other" label={name(o.identity)} cells={[...way(o.up, o.rttMs), pictureOf(o), "", freezes(o)]} bad={o.up} />
          ))}
        </tbody>
      </table>
      <p className="figures-note">
        {serverMissing ? "The server’s figures are missing: these are your browser’s alone." : "Of the last ten seconds. Loss is counted before what is lost gets sent again."}
      </p>
    </section>
  );
}

function Row({ label, cells, bad, testid }: { label: string; cells: readonly string[]; bad: Link; testid: string }) {
  return (
    <tr role="row" data-testid={testid}>
      <th role="rowheader" scope="row">
        {label}
      </th>
      {columns.map((c, i) => (
        <td key={c} role="cell" data-label={c} data-bad={(c === "Loss" && (bad.loss ?? 0) >= 0.03) || undefined} data-empty={!cells[i] || undefined}>
          {cells[i] || "–"}
        </td>
      ))}
    </tr>
  );
}

const ms = (value: number | null): string => (value === null ? "" : `${Math.round(value)} ms`);
const way = (link: Link, rtt: number | null): string[] => [link.loss === null ? "" : percent(link.loss), ms(rtt), ms(link.jitterMs), link.bitrateBps === null ? "" : bitrate(link.bitrateBps)];

function picture(p: Picture | null): string {
  if (!p?.width || !p.height) return "";
  return `${p.width}×${p.height}${p.fps ? ` · ${Math.round(p.fps)}/s` : ""}`;
}

const reasons: Record<Exclude<Receiving["why"], "">, string> = {
  muted: "off",
  disabled: "not shown",
  no_media: "nothing comes",
  starting: "switching",
  not_sent: "not sent larger",
  bandwidth: "connection too slow",
};

function pictureOf(o: Other): string {
  const video = o.camera ?? o.screen;
  if (!video) return "";
  const size = picture(video);
  const why = video.why && video.layer < video.wanted ? reasons[video.why] : "";
  return [size, why && `(${why})`].filter(Boolean).join(" ");
}

function freezes(o: Other): string {
  const video = o.camera ?? o.screen;
  return video ? String(video.freezes) : "";
}

function path(p: Path | null): string {
  switch (p) {
    case "direct":
      return "direct";
    case "tcp":
      return "TCP";
    case "relay":
      return "relay";
    case "relay-tcp":
      return "relay, TCP";
    default:
      return "";
  }
}
