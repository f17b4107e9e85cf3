/** The page came over plain HTTP from another machine: the browser then offers no camera, and keeps no session. */
import { Logo } from "../components/Logo";

export function Insecure() {
  const host = location.hostname;
  return (
    <main className="splash insecure" data-testid="insecure">
      <Logo size={64} />
      <h1>Calls need a secure address</h1>
      <p>
        This page came over plain <code>http://</code>. Browsers then give no page a camera or microphone, and keep nobody signed in.
      </p>
      <ul className="ways">
        <li>
          <h2>Has this server an https address?</h2>
          <p>
            Open it instead: <a href={`https://${host}/`}>https://{host}/</a>
          </p>
        </li>
        <li>
          <h2>Is the server yours, with a domain?</h2>
          <p>
            Start it with <code>--domain calls.example.org</code>. It fetches a certificate by itself.
          </p>
        </li>
        <li>
          <h2>Only on this network?</h2>
          <p>
            Start it with <code>--https :7443 --self-signed</code>, open <a href={`https://${host}:7443/`}>https://{host}:7443/</a>, and accept the browser’s warning once. Or give it a certificate of your own: <code>--tls-cert</code>, <code>--tls-key</code>.
          </p>
        </li>
        <li>
          <h2>On the server’s own machine?</h2>
          <p>
            <a href={`http://localhost:${location.port || "80"}/`}>localhost</a> counts as secure.
          </p>
        </li>
      </ul>
    </main>
  );
}
