import { fileURLToPath } from "node:url";
import { configDefaults, defineConfig } from "vitest/config";
import { bootScript } from "./scripts/boot.ts";
import { precompress } from "./scripts/precompress.ts";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

// The source is written against React's API and runs on Preact: removing the
// four react lines of `alias` (and adding react) moves it to React itself.
export default defineConfig({
  resolve: {
    alias: [
      { find: "react-dom/client", replacement: "preact/compat/client" },
      { find: "react-dom", replacement: "preact/compat" },
      { find: "react/jsx-runtime", replacement: "preact/jsx-runtime" },
      { find: "react/jsx-dev-runtime", replacement: "preact/jsx-dev-runtime" },
      { find: /^react$/, replacement: "preact/compat" },
      { find: /^use-sync-external-store\/shim(\/index\.js)?$/, replacement: "preact/compat" }, // React has it itself by now
      // markdown-it needs one function of it; the browser knows all entities.
      { find: /^entities$/, replacement: here("./src/markdown/entities.ts") },
    ],
  },
  plugins: [bootScript(here("./src/boot.js")), precompress()],
  server: { proxy: { "/api": "http://127.0.0.1:8080", "/v1": "http://127.0.0.1:8080" } },
  build: {
    target: "es2022",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    cssCodeSplit: false,
    rolldownOptions: {
      output: {
        // Few files: each one costs a round trip. The start holds what every
        // page shares, "chat" the frame and the chat, "renderer" the Markdown.
        codeSplitting: {
          includeDependenciesRecursively: false,
          groups: [
            { name: "start", test: /src\/(ui|api|main|app|i18n\/index)|vite\/|node_modules\/(preact|wouter|regexparam)/, priority: 4 },
            { name: "renderer", test: /src\/markdown\/(?!highlight)|node_modules\/(markdown-it|linkify-it|mdurl|uc\.micro|punycode|get-east)/, priority: 3 },
            { name: "chat", test: /src\/(chat|shell)\//, priority: 2 },
            { name: "desk", test: /src\/account\/(keys|usage|account|Desk|NewKey|snippets|usePages)/, priority: 2 },
          ],
        },
      },
    },
  },
  test: {
    environment: "happy-dom",
    include: ["src/**/*.test.{ts,tsx}"],
    exclude: [...configDefaults.exclude, "dist/**"],
    setupFiles: ["src/test/setup.ts"],
    server: { deps: { inline: ["@testing-library/preact", "wouter", "markdown-it"] } },
  },
});
