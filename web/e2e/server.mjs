// Starts what the tests run against: the real binary, or the stand-in.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { start } from "../dev/fake.mjs";

const binary = process.env.JIMU_BIN ?? fileURLToPath(new URL("../../bin/jimu", import.meta.url));

/** serve starts a server with nothing in it and returns {url, link, real, close}. */
export async function serve(fake) {
  if (fake) return { ...(await start()), real: false };
  if (!existsSync(binary)) throw new Error(`${binary} is missing: run make build, or npm run e2e -- --fake`);
  const dir = mkdtempSync(join(tmpdir(), "jimu-e2e-"));
  const env = Object.fromEntries(Object.entries(process.env).filter(([k]) => !k.startsWith("JIMU_")));
  const child = spawn(binary, ["serve", "--listen", "127.0.0.1:0", "--data", join(dir, "data")], { cwd: dir, env, stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  const clean = () => rmSync(dir, { recursive: true, force: true });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const link = await new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`the server printed no setup link within 20 s:\n${said}`)), 20_000);
    const hear = (piece) => {
      said += piece;
      const found = /https?:\/\/\S+\/setup#\S+/.exec(said);
      if (!found) return;
      clearTimeout(timer);
      resolve(found[0]);
    };
    child.stdout.on("data", hear);
    child.stderr.on("data", hear);
    child.once("exit", (code) => reject(new Error(`the server ended with ${code}:\n${said}`)));
  }).catch((err) => {
    child.kill("SIGKILL");
    clean();
    throw err;
  });
  return {
    url: new URL(link).origin,
    link,
    real: true,
    said: () => said,
    close: async () => {
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), 10_000);
      await ended;
      clearTimeout(timer);
      clean();
    },
  };
}
