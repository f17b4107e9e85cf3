/** One person in a call: the picture or, without one, the avatar; name, microphone, network. */
import { memo, useEffect, useRef, useState, type CSSProperties } from "react";
import type { Participant, VideoSource } from "../../call/room";
import { connectionInWords, handleOf, nameOf } from "../../call/words";
import { Avatar } from "../components/Avatar";
import { Icon } from "../components/Icon";
import { Signal } from "../components/Signal";
import { pictureFit, type PictureFit } from "./layout";

export interface TileProps {
  participant: Participant;
  name: string;
  displayName: string;
  /** Joined but not seen in the room, or only rung: said instead of the picture. */
  note?: string;
  /** Opens what is known of the connection. */
  onQuality?: () => void;
  style?: CSSProperties;
  className?: string;
}

export const Tile = memo(function Tile({ participant, name, displayName, note, onQuality, style, className = "" }: TileProps) {
  const { camera, self, speaking, microphone, quality } = participant;
  const shown = nameOf({ name, displayName });
  const handle = handleOf({ name, displayName });
  return (
    <div
      className={`tile ${className}`}
      style={style}
      data-testid="tile"
      data-identity={participant.identity}
      data-self={self}
      data-name={name}
      data-speaking={speaking || undefined}
      role="group"
      aria-label={`${self ? "You" : shown}${microphone ? "" : ", microphone off"}${speaking ? ", speaking" : ""}`}
    >
      {camera ? <Video source={camera} mirrored={self} label={self ? "Your camera" : `${shown}’s camera`} /> : <Avatar name={name} displayName={displayName} size="xl" />}
      {note && <span className="tile-note">{note}</span>}
      <span className="tile-label">
        {!microphone && (
          <span className="tile-muted" data-testid="tile-muted" title="Microphone off">
            <Icon name="micOff" size={16} />
          </span>
        )}
        <span className="tile-name">{self ? "You" : shown}</span>
        {!self && handle && <span className="tile-handle">{handle}</span>}
        {quality !== "good" && quality !== "unknown" && (
          <button type="button" className="tile-quality" data-testid="tile-quality" data-quality={quality} title={`${connectionInWords(quality)}: why?`} aria-label={`${connectionInWords(quality)}${self ? "" : ` of ${shown}`}. Show why`} onClick={onQuality}>
            <Signal quality={quality} />
          </button>
        )}
      </span>
    </div>
  );
});

export function Video({ source, mirrored = false, whole = false, label }: { source: VideoSource; mirrored?: boolean; whole?: boolean; label: string }) {
  const ref = useRef<HTMLVideoElement>(null);
  const [fit, setFit] = useState<PictureFit>("fill");
  useEffect(() => {
    const element = ref.current;
    if (!element) return;
    source.attach(element);
    const tile = element.parentElement ?? element;
    const look = (): void => setFit(pictureFit(element.videoWidth / element.videoHeight, tile.clientWidth / tile.clientHeight));
    element.addEventListener("resize", look);
    const observer = new ResizeObserver(look);
    observer.observe(tile);
    return () => {
      element.removeEventListener("resize", look);
      observer.disconnect();
      source.detach(element);
    };
  }, [source]);
  return <video ref={ref} autoPlay playsInline muted data-mirrored={mirrored || undefined} data-fit={whole ? "whole" : fit} aria-label={label} />;
}
