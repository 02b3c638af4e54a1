import type { Env, Token } from "markdown-it";
import { markdown } from "./engine";

/** Cut is a top-level block: where it ends in the text, and its HTML. */
interface Cut {
  line: number; // its first line
  html: string;
}

/** The level-0 tokens of a text, grouped into blocks. */
function blocksOf(text: string): { blocks: Cut[]; references: boolean } {
  const md = markdown();
  const env: Env = {};
  const tokens = md.parse(text, env);
  const blocks: Cut[] = [];
  let group: Token[] = [];
  for (const token of tokens) {
    group.push(token);
    if (token.level !== 0 || token.nesting === 1) continue;
    blocks.push({ line: group[0]?.map?.[0] ?? 0, html: md.renderer.render(group, md.options, env) });
    group = [];
  }
  return { blocks, references: env.references !== undefined && Object.keys(env.references).length > 0 };
}

/** renderWhole renders a text in one go, as one HTML string for each block. */
export const renderWhole = (text: string): string[] => blocksOf(text.replace(/\r\n?/g, "\n")).blocks.map((b) => b.html);

/** offsetOfLine is where a line begins. */
function offsetOfLine(text: string, line: number): number {
  let at = 0;
  for (let i = 0; i < line; i++) at = text.indexOf("\n", at) + 1;
  return at;
}

/**
 * Blocks renders a text that grows at its end. Only the part that can still
 * change is parsed again: a block is settled once a later block has begun on a
 * line that is complete, for nothing that follows can reach across such a line.
 * One thing can: a reference definition ("[a]: url") gives meaning to text
 * above it, so a text that has one is rendered whole each time.
 */
export class Blocks {
  /** HTML of each block; those below `settled` never change again. */
  readonly html: string[] = [];
  settled = 0;
  private open = ""; // the text after the settled blocks
  private all = "";
  private whole = false;
  private heldCR = false;

  /** append adds text and returns the index of the first block that may have changed. */
  append(piece: string): number {
    let text = (this.heldCR ? "\r" : "") + piece;
    this.heldCR = text.endsWith("\r");
    if (this.heldCR) text = text.slice(0, -1);
    text = text.replace(/\r\n?/g, "\n");
    this.all += text;
    this.open += text;
    return this.render();
  }

  /** finish says that the text is complete: every block is settled, and nothing may be added. */
  finish(): number {
    if (this.heldCR) {
      this.heldCR = false;
      this.all += "\n";
      this.open += "\n";
      this.render();
    }
    const from = this.settled;
    this.settled = this.html.length;
    this.open = "";
    return from;
  }

  private render(): number {
    let from = this.settled;
    let parsed = blocksOf(this.whole ? this.all : this.open);
    if (parsed.references && !this.whole) {
      this.whole = true;
      parsed = blocksOf(this.all);
    }
    if (this.whole) from = this.settled = 0;
    const { blocks } = parsed;
    this.html.length = from;
    for (const b of blocks) this.html.push(b.html);
    if (this.whole) return from;

    const incomplete = this.open.split("\n").length - 1; // the last line, which has no end yet
    let last = blocks.length - 1;
    while (last > 0 && (blocks[last] as Cut).line >= incomplete) last--;
    if (last > 0) {
      this.open = this.open.slice(offsetOfLine(this.open, (blocks[last] as Cut).line));
      this.settled += last;
    }
    return from;
  }
}
