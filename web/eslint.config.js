import js from "@eslint/js";
import hooks from "eslint-plugin-react-hooks";
import globals from "globals";
import ts from "typescript-eslint";

export default ts.config(
  { ignores: ["dist", "node_modules", "e2e"] },
  js.configs.recommended,
  {
    files: ["**/*.{ts,tsx}"],
    extends: [ts.configs.strictTypeChecked],
    languageOptions: { parserOptions: { project: ["./tsconfig.json", "./tsconfig.node.json"], tsconfigRootDir: import.meta.dirname } },
    rules: {
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      // The server's answers are checked as far as they're used; a missing list must not break a page.
      "@typescript-eslint/no-unnecessary-condition": "off",
      "@typescript-eslint/no-empty-function": "off",
      "@typescript-eslint/no-meaningless-void-operator": "off",
    },
  },
  {
    files: ["src/**/*.tsx", "src/ui/**/*.ts"],
    plugins: { "react-hooks": hooks },
    rules: { ...hooks.configs.recommended.rules, "react-hooks/set-state-in-effect": "off" },
  },
  {
    // Wire, call and people know no page: their state is tested in virtual time, and the watch's page shares it.
    files: ["src/wire/**/*.ts", "src/call/**/*.ts", "src/people/**/*.ts"],
    ignores: ["**/*.test.ts"],
    rules: {
      "no-restricted-globals": ["error", "window", "document", "localStorage", "location", "fetch", "WebSocket"],
      "no-restricted-imports": ["error", { patterns: ["react", "react-dom", "livekit-client", "**/ui/**", "**/media/**"] }],
    },
  },
  { files: ["dev/**/*.mjs", "*.js"], languageOptions: { globals: { ...globals.node, document: "readonly", innerWidth: "readonly" } } },
  { files: ["public/*.js"], languageOptions: { globals: globals.browser, sourceType: "script" } },
);
