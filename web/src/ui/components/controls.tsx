/** Buttons, fields and the like, with their states. */
import { useId, useState, type ButtonHTMLAttributes, type InputHTMLAttributes, type ReactNode } from "react";
import { Icon, type IconName } from "./Icon";

type ButtonProps = ButtonHTMLAttributes<HTMLButtonElement> & {
  tone?: "primary" | "plain" | "quiet" | "go" | "stop";
  icon?: IconName;
  busy?: boolean;
};

export function Button({ tone = "plain", icon, busy = false, children, className = "", ...rest }: ButtonProps) {
  return (
    <button type="button" {...rest} className={`button ${className}`} data-tone={tone} aria-busy={busy || undefined} disabled={rest.disabled || busy}>
      {busy ? <span className="spinner" aria-hidden="true" /> : icon && <Icon name={icon} size={20} />}
      {children !== undefined && <span>{children}</span>}
    </button>
  );
}

type IconButtonProps = ButtonHTMLAttributes<HTMLButtonElement> & {
  label: string;
  icon: IconName;
  tone?: "plain" | "quiet" | "soft" | "go" | "stop";
  size?: number;
};

export function IconButton({ label, icon, tone = "quiet", size = 22, className = "", ...rest }: IconButtonProps) {
  return (
    <button type="button" title={label} aria-label={label} {...rest} className={`icon-button ${className}`} data-tone={tone}>
      <Icon name={icon} size={size} />
    </button>
  );
}

type FieldProps = InputHTMLAttributes<HTMLInputElement> & {
  label: string;
  hint?: ReactNode;
  prefix?: string;
  error?: string;
};

export function Field({ label, hint, prefix, error, ...input }: FieldProps) {
  const id = useId();
  const described = [hint ? `${id}-hint` : "", error ? `${id}-error` : ""].filter(Boolean).join(" ");
  return (
    <div className="field" data-invalid={error ? true : undefined}>
      <label htmlFor={id}>{label}</label>
      <div className="field-box">
        {prefix && (
          <span className="field-prefix" aria-hidden="true">
            {prefix}
          </span>
        )}
        <input id={id} aria-describedby={described || undefined} aria-invalid={error ? true : undefined} {...input} />
      </div>
      {hint && (
        <p className="field-hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
      {error && (
        <p className="field-error" id={`${id}-error`}>
          {error}
        </p>
      )}
    </div>
  );
}

export function PasswordField({ label, hint, ...input }: FieldProps) {
  const id = useId();
  const [shown, setShown] = useState(false);
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <div className="field-box">
        <input id={id} type={shown ? "text" : "password"} aria-describedby={hint ? `${id}-hint` : undefined} {...input} />
        <button type="button" className="field-action" aria-pressed={shown} onClick={() => setShown(!shown)}>
          {shown ? "Hide" : "Show"}
        </button>
      </div>
      {hint && (
        <p className="field-hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
    </div>
  );
}

export function Switch({ label, hint, checked, onChange, disabled = false }: { label: string; hint?: string; checked: boolean; onChange: (on: boolean) => void; disabled?: boolean }) {
  const id = useId();
  return (
    <div className="setting">
      <div>
        <label className="setting-label" htmlFor={id}>
          {label}
        </label>
        {hint && (
          <p className="setting-hint" id={`${id}-hint`}>
            {hint}
          </p>
        )}
      </div>
      <input
        id={id}
        type="checkbox"
        role="switch"
        className="switch"
        checked={checked}
        disabled={disabled}
        aria-describedby={hint ? `${id}-hint` : undefined}
        onChange={(e) => onChange(e.target.checked)}
      />
    </div>
  );
}

export function Choice<T extends string>({ label, hint, value, options, onChange }: { label: string; hint?: string; value: T; options: readonly (readonly [T, string])[]; onChange: (value: T) => void }) {
  const id = useId();
  return (
    <fieldset className="setting choice" aria-describedby={hint ? `${id}-hint` : undefined}>
      <legend className="setting-label">{label}</legend>
      {hint && (
        <p className="setting-hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
      <div className="segments">
        {options.map(([option, text]) => (
          <label key={option} className="segment">
            <input type="radio" name={id} checked={value === option} onChange={() => onChange(option)} />
            <span>{text}</span>
          </label>
        ))}
      </div>
    </fieldset>
  );
}

export function Empty({ icon, title, children }: { icon: IconName; title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <span className="empty-icon">
        <Icon name={icon} size={28} />
      </span>
      <h2>{title}</h2>
      {children}
    </div>
  );
}

export function Problem({ children, testid }: { children: ReactNode; testid?: string }) {
  return (
    <p className="problem" role="alert" data-testid={testid}>
      <Icon name="alert" size={18} />
      <span>{children}</span>
    </p>
  );
}
