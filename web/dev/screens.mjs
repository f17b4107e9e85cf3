/**
 * Photographs every scene at four sizes, light and dark, and lets axe-core look at each: `npm run screens [-- PATTERN]`.
 * Pictures go to $SCREENS (default: artifacts/screens of the repository). Exits 1 if axe finds something, or if a page
 * overflows its width or logs an error.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { build, preview } from "vite";

const here = dirname(fileURLToPath(import.meta.url));
const out = resolve(process.env.SCREENS ?? join(here, "../../artifacts/screens"));
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const pattern = new RegExp(process.argv[2] ?? ".");
const sizes = { watch: [192, 192], phone: [390, 844], tablet: [820, 1180], desktop: [1440, 900] };
const wanted = (process.env.SIZES ?? Object.keys(sizes).join(",")).split(",");
const themes = (process.env.THEMES ?? "light,dark").split(",");

mkdirSync(out, { recursive: true });
const root = join(here, "..");
const outDir = mkdtempSync(join(tmpdir(), "anytime-scenes-"));
const common = { root, configFile: join(root, "vite.config.ts"), logLevel: "error" };
process.env.SCENES = "1";
await build({ ...common, build: { outDir, emptyOutDir: true, rollupOptions: { input: join(here, "scenes.html") } } });
const vite = await preview({ ...common, build: { outDir }, preview: { port: 0, host: "127.0.0.1" } });
const { port } = vite.httpServer.address();
const base = `http://127.0.0.1:${port}/dev/scenes.html`;
const profile = mkdtempSync(join(tmpdir(), "anytime-screens-"));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: false,
  args: ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run", "--autoplay-policy=no-user-gesture-required"],
});
let failures = 0;
const fail = (text) => {
  failures++;
  console.log(text);
};

try {
  const page = await browser.newPage();
  let where = "";
  page.on("pageerror", (error) => fail(`${where}: ${error}`));
  page.on("console", (m) => {
    // A scene that shows an error answers with one: the browser notes that by itself.
    if (m.type() === "error" && !m.text().startsWith("Failed to load resource")) fail(`${where}: ${m.text()}`);
  });
  await page.goto(`${base}?list`);
  await page.waitForFunction(() => document.title.includes("home"));
  const names = (await page.title()).split(" ").filter((name) => pattern.test(name));
  for (const name of names) {
    for (const size of wanted) {
      const [width, height] = sizes[size];
      await page.setViewportSize({ width, height });
      for (const theme of themes) {
        where = `${name} ${size} ${theme}`;
        await page.emulateMedia({ colorScheme: theme });
        await page.goto(`${base}?scene=${name}&theme=${theme}`);
        await page.waitForSelector("body[data-ready]", { timeout: 15_000 });
        await page.evaluate(() =>
          Promise.all(
            document
              .getAnimations()
              .filter((a) => a.effect?.getComputedTiming().endTime !== Infinity)
              .map((a) => a.finished),
          ),
        );
        await page.screenshot({ path: join(out, `${name}-${size}-${theme}.png`) });
        const wide = await page.evaluate(() => Math.max(document.documentElement.scrollWidth, document.body.scrollWidth) - innerWidth);
        if (wide > 0) fail(`${where}: ${wide} px wider than the screen`);
        await page.evaluate(axe);
        const { violations } = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
        for (const v of violations) {
          fail(`${where}: ${v.id}: ${v.help}\n    ${v.nodes.slice(0, 3).map((n) => `${n.target.join(" ")} ${n.any[0]?.message ?? ""}`).join("\n    ")}`);
        }
      }
    }
  }
  console.log(`${names.length} scenes in ${wanted.length * themes.length} ways each: ${failures === 0 ? "all well" : `${failures} findings`}. Pictures in ${out}`);
} finally {
  await browser.close();
  await vite.close();
  rmSync(outDir, { recursive: true, force: true });
  rmSync(profile, { recursive: true, force: true });
}
process.exit(failures === 0 ? 0 : 1);
