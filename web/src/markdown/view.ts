import { t } from "../i18n";
import { copyText } from "../ui/clipboard";
import { Blocks } from "./blocks";

/** copyCode answers the copy buttons of code blocks. */
async function copyCode(e: Event): Promise<void> {
  const button = e.target instanceof Element ? e.target.closest<HTMLElement>("[data-copy]") : null;
  const code = button?.closest(".code")?.querySelector("code");
  if (!button || !code || !(await copyText(code.textContent ?? ""))) return;
  button.textContent = t("copied");
  setTimeout(() => {
    button.textContent = t("copy");
  }, 1500);
}

/**
 * View keeps an element's children equal to the blocks of a growing text: one
 * child for each block, written again only while the block can change.
 */
export class View {
  private readonly root: HTMLElement;
  private blocks = new Blocks();
  private text = "";
  private shown: string[] = [];
  private coloured = 0;
  private finished = false;

  constructor(root: HTMLElement) {
    this.root = root;
    root.addEventListener("click", (e) => void copyCode(e));
  }

  /** update shows a text; done says that it will not grow. */
  update(text: string, done: boolean): void {
    if (this.finished && text === this.text) return;
    if (this.finished || !text.startsWith(this.text)) {
      this.finished = false;
      this.blocks = new Blocks();
      this.text = "";
      this.coloured = 0;
    }
    const from = this.blocks.append(text.slice(this.text.length));
    this.text = text;
    this.write(from);
    if (done) this.write(this.blocks.finish());
    this.finished = done;
    this.colour();
  }

  private write(from: number): void {
    const { html } = this.blocks;
    for (let i = from; i < html.length; i++) {
      const want = html[i] as string;
      let child = this.root.children[i];
      if (child && this.shown[i] === want) continue;
      if (!child) child = this.root.appendChild(document.createElement("div"));
      child.innerHTML = want; // made by engine.ts alone, which passes no HTML on
      this.shown[i] = want;
      this.coloured = Math.min(this.coloured, i);
    }
    while (this.root.children.length > html.length) this.root.lastElementChild?.remove();
    this.shown.length = html.length;
  }

  /** colour highlights the code of the blocks that are settled. */
  private colour(): void {
    for (; this.coloured < this.blocks.settled; this.coloured++) {
      for (const code of this.root.children[this.coloured]?.querySelectorAll<HTMLElement>("code[data-lang]") ?? []) {
        if (code.dataset.lang) void import("./highlight").then((m) => m.highlight(code)).catch(() => undefined);
      }
    }
  }
}
