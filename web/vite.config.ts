import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";

const compressible = /\.(?:js|css|html|svg|json|webmanifest|txt)$/;

/** Kilobytes of gzip'ed JavaScript: what the first page needs, and what a call adds to it. */
const budget = { index: 150, livekit: 170 };

/** Writes .br and .gz beside every text file of the build, so that the server compresses nothing at run time; watches the budget. */
function precompress(): Plugin {
  let out = "dist";
  return {
    name: "anytime-precompress",
    apply: "build",
    configResolved(config) {
      out = join(config.root, config.build.outDir);
    },
    closeBundle() {
      const walk = (dir: string): void => {
        for (const name of readdirSync(dir)) {
          const path = join(dir, name);
          if (statSync(path).isDirectory()) walk(path);
          else if (compressible.test(name) && statSync(path).size > 512) {
            const plain = readFileSync(path);
            const gzipped = gzipSync(plain, { level: 9 });
            const limit = name.endsWith(".js") ? budget[name.split("-")[0] as keyof typeof budget] : undefined;
            if (limit !== undefined && gzipped.length > limit * 1024) {
              throw new Error(`${name} has ${Math.ceil(gzipped.length / 1024)} KB gzip'ed: its budget is ${limit} KB`);
            }
            writeFileSync(path + ".gz", gzipped);
            writeFileSync(
              path + ".br",
              brotliCompressSync(plain, { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } }),
            );
          }
        }
      };
      walk(out);
    },
  };
}

// `npm run dev` talks to a running `anytime serve`, or to `npm run fake` with ANYTIME_SERVER=http://localhost:7890.
const server = process.env.ANYTIME_SERVER ?? "http://localhost:7880";

export default defineConfig({
  plugins: [react(), ...(process.env.SCENES ? [] : [precompress()])],
  build: {
    target: ["chrome111", "firefox114", "safari16.4"],
    // A data: font or image would need a wider Content-Security-Policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    sourcemap: false,
    chunkSizeWarningLimit: 700,
  },
  server: {
    port: 5173,
    proxy: {
      "/v1": { target: server, ws: true },
      "/rtc": { target: server, ws: true },
    },
  },
});
