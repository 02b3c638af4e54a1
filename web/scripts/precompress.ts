import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import type { Plugin } from "vite";

const smallest = 1024; // bytes; below this a second form does not pay
const packable = /\.(js|css|html|svg|json|webmanifest|txt)$/;

/** precompress writes a .br and a .gz beside each file of the build that gains from it. */
export function precompress(): Plugin {
  let dir = "dist";
  return {
    name: "jimu-precompress",
    apply: "build",
    configResolved: (c) => {
      dir = join(c.root, c.build.outDir);
    },
    closeBundle() {
      writeFileSync(join(dir, ".gitkeep"), ""); // go:embed needs the folder in a fresh clone
      for (const entry of readdirSync(dir, { recursive: true, encoding: "utf8" })) {
        const path = join(dir, entry);
        if (!packable.test(path) || statSync(path).size < smallest) continue;
        const body = readFileSync(path);
        const params = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: body.length };
        writeFileSync(`${path}.br`, brotliCompressSync(body, { params }));
        writeFileSync(`${path}.gz`, gzipSync(body, { level: 9 }));
      }
    },
  };
}
