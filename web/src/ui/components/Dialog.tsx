/** A modal dialog on the browser's own <dialog>: it traps focus, takes Escape and gives focus back. */
import { useEffect, useRef, type ReactNode } from "react";

export function Dialog({ label, className = "", onClose, children, testid, closeOnBackdrop = true }: {
  label: string;
  className?: string;
  /** Called for Escape and clicks outside; null keeps the dialog open. */
  onClose: (() => void) | null;
  children: ReactNode;
  testid?: string;
  closeOnBackdrop?: boolean;
}) {
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const dialog = ref.current;
    if (!dialog) return;
    dialog.showModal();
    // Focus goes to the dialog itself unless something in it asks for it: a stray Enter presses nothing.
    (dialog.querySelector<HTMLElement>("[data-autofocus]") ?? dialog).focus();
    return () => dialog.close();
  }, []);
  return (
    <dialog
      ref={ref}
      className={`dialog ${className}`}
      aria-label={label}
      tabIndex={-1}
      data-testid={testid}
      onCancel={(e) => {
        e.preventDefault();
        onClose?.();
      }}
      onClick={(e) => {
        if (closeOnBackdrop && e.target === e.currentTarget) onClose?.();
      }}
    >
      {children}
    </dialog>
  );
}
