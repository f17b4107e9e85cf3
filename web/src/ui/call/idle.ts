import { useEffect, useRef, useState, type MouseEvent, type PointerEvent } from "react";

/** True once nobody has moved, touched or typed for `ms`; only while `active`. A focused control keeps it awake. */
export function useIdle(ms: number, active: boolean): boolean {
  const [idle, setIdle] = useState(false);
  useEffect(() => {
    if (!active) {
      setIdle(false);
      return;
    }
    let timer: ReturnType<typeof setTimeout>;
    const sleep = (): void => {
      if (document.activeElement?.matches(":focus-visible") && document.activeElement !== document.body) timer = setTimeout(sleep, ms);
      else setIdle(true);
    };
    const wake = (): void => {
      setIdle(false);
      clearTimeout(timer);
      timer = setTimeout(sleep, ms);
    };
    const events = ["pointermove", "pointerdown", "keydown", "focusin"] as const;
    for (const e of events) addEventListener(e, wake, { passive: true });
    wake();
    return () => {
      clearTimeout(timer);
      for (const e of events) removeEventListener(e, wake);
    };
  }, [ms, active]);
  return idle;
}

/** While the controls are hidden, the first touch only shows them: a finger would press what it can't see. A mouse wakes them by moving. */
export function useFirstTouch(hidden: boolean) {
  const waking = useRef(false);
  return {
    onPointerDownCapture: (event: PointerEvent): void => {
      waking.current = hidden && event.pointerType !== "mouse";
    },
    onClickCapture: (event: MouseEvent): void => {
      if (!waking.current) return;
      waking.current = false;
      event.preventDefault();
      event.stopPropagation();
    },
  };
}
