import { describe, expect, it } from "vitest";
import { Blocks, renderWhole } from "./blocks";
import { attacks, samples } from "./samples";
import { View } from "./view";

/** A small generator of numbers that are the same in every run. */
function seeded(seed: number): () => number {
  let a = seed;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function cut(text: string, random: () => number, largest: number): string[] {
  const pieces: string[] = [];
  for (let at = 0; at < text.length; ) {
    const n = 1 + Math.floor(random() * largest);
    pieces.push(text.slice(at, at + n));
    at += n;
  }
  return pieces;
}

const whole = (text: string) => renderWhole(text).join("");

describe("Blocks", () => {
  it.each(samples.map((s, i) => [i, s] as const))("renders sample %i alike in pieces of any size", (i, text) => {
    const random = seeded(i + 1);
    for (const largest of [1, 2, 3, 7, 20, 60]) {
      for (let round = 0; round < 8; round++) {
        const blocks = new Blocks();
        for (const piece of cut(text, random, largest)) blocks.append(piece);
        blocks.finish();
        expect(blocks.html.join("")).toBe(whole(text));
      }
    }
  });

  it("renders joined samples alike at every moment", () => {
    const random = seeded(99);
    for (let round = 0; round < 25; round++) {
      const text = [0, 1, 2, 3].map(() => samples[Math.floor(random() * samples.length)]).join(random() < 0.5 ? "\n\n" : "\n");
      const blocks = new Blocks();
      let so_far = "";
      for (const piece of cut(text, random, 25)) {
        blocks.append(piece);
        so_far += piece;
        if (!so_far.endsWith("\r")) expect(blocks.html.join("")).toBe(whole(so_far));
      }
    }
  });

  it("does not parse settled blocks again", () => {
    const blocks = new Blocks();
    for (let i = 0; i < 50; i++) blocks.append(`paragraph ${i}\n\n`);
    expect(blocks.settled).toBe(49);
    expect(blocks.append("more")).toBe(49);
  });

  it("never changes a settled block while a text grows", () => {
    const text = samples.filter((s) => !s.includes("[ref]") && !s.includes("unclosed")).join("\n\n");
    const blocks = new Blocks();
    let frozen: string[] = [];
    for (const piece of cut(text, seeded(5), 9)) {
      blocks.append(piece);
      expect(blocks.html.slice(0, frozen.length)).toEqual(frozen);
      frozen = blocks.html.slice(0, blocks.settled);
    }
    expect(frozen.length).toBeGreaterThan(30);
  });
});

describe("Chinese emphasis", () => {
  it.each([
    ["**注意：**请", "<strong>注意：</strong>请"],
    ["这是**重点。**然后", "这是<strong>重点。</strong>然后"],
    ["**「引号」**后", "<strong>「引号」</strong>后"],
    ["他说**“你好”**了", "他说<strong>“你好”</strong>了"],
    ["*（括号）*之后", "<em>（括号）</em>之后"],
    ["用**`code`**吧", "用<strong><code>code</code></strong>吧"],
    ["**価格：**1000円", "<strong>価格：</strong>1000円"],
    ["**English:** text", "<strong>English:</strong> text"],
    ["2 ** 3 ** 4", "2 ** 3 ** 4"],
  ])("%s", (text, html) => {
    expect(whole(text)).toContain(html);
  });
});

describe("what is dangerous", () => {
  it("has enough attempts", () => expect(attacks.length).toBeGreaterThanOrEqual(40));

  const harmless = new Set("DIV P H1 H2 H3 H4 H5 H6 UL OL LI BLOCKQUOTE PRE CODE EM STRONG S A IMG HR BR TABLE THEAD TBODY TR TH TD SPAN BUTTON".split(" "));
  const allowed = new Set(["href", "rel", "target", "class", "tabindex", "type", "title", "start", "src", "alt", "data-lang", "data-copy"]);

  it.each(attacks)("is inert: %s", (text) => {
    const root = document.createElement("div");
    new View(root).update(text, true);
    for (const el of root.querySelectorAll("*")) {
      expect(harmless).toContain(el.tagName);
      for (const { name, value } of el.attributes) {
        expect(allowed).toContain(name);
        if (name === "href") expect(new URL(value, "https://page.example/").protocol).toMatch(/^(https?|mailto|data):$/);
        if (name === "href" || name === "src") expect(value).not.toMatch(/^\s*(javascript|vbscript|file|data:(?!image\/(gif|png|jpeg|webp)))/i);
      }
    }
  });

  it("keeps what was written readable", () => {
    const root = document.createElement("div");
    new View(root).update("<b>x</b> & [y](javascript:alert(1))", true);
    expect(root.textContent?.trim()).toBe("<b>x</b> & [y](javascript:alert(1))");
  });
});

describe("the page's own additions", () => {
  it("opens links elsewhere, without telling from where", () => {
    expect(whole("[a](https://example.com)")).toContain('rel="noopener noreferrer nofollow" target="_blank"');
  });
  it("writes no style attribute", () => expect(whole(samples.join("\n\n"))).not.toContain("style="));
  it("aligns table cells by class", () => expect(whole(samples[2] as string)).toContain('<td class="to-right">2</td>'));
  it("turns a picture from elsewhere into a link", () => {
    expect(whole("![cat](https://example.com/cat.png)")).toContain('<a href="https://example.com/cat.png" rel="noopener noreferrer nofollow" target="_blank">cat</a>');
  });
  it("labels code and offers to copy it", () => {
    expect(whole("```Go x=1\nfunc\n```")).toContain('<span>go</span><button type="button" class="quiet small" data-copy>Copy</button>');
  });
  it("decodes character references", () => expect(whole("&hellip;&nbsp;&copy;")).toContain("…\u00a0©"));
});

describe("View", () => {
  it("writes a settled block once", () => {
    const root = document.createElement("div");
    const view = new View(root);
    view.update("one\n\ntwo\n\n", false);
    const first = root.children[0];
    (first as HTMLElement).dataset.mark = "kept";
    view.update("one\n\ntwo\n\nthree", false);
    view.update("one\n\ntwo\n\nthree", true);
    expect((root.children[0] as HTMLElement).dataset.mark).toBe("kept");
    expect(root.children).toHaveLength(3);
  });

  it("stays as it is when shown again", () => {
    for (const text of samples) {
      const root = document.createElement("div");
      const view = new View(root);
      view.update(text, true);
      const once = root.innerHTML;
      view.update(text, true);
      expect(root.innerHTML).toBe(once);
      expect(root.children).toHaveLength(renderWhole(text).length);
    }
  });

  it("shows the same after growing as when shown at once", () => {
    for (const [i, text] of samples.entries()) {
      const grown = document.createElement("div");
      const view = new View(grown);
      let shown = "";
      for (const piece of cut(text, seeded(i), 12)) {
        shown += piece;
        view.update(shown, false);
        view.update(shown, false);
      }
      view.update(text, true);
      const whole_at_once = document.createElement("div");
      new View(whole_at_once).update(text, true);
      expect(grown.innerHTML).toBe(whole_at_once.innerHTML);
    }
  });

  it("starts anew with another text", () => {
    const root = document.createElement("div");
    const view = new View(root);
    view.update("one\n\ntwo", true);
    view.update("other", true);
    expect(root.innerHTML).toBe("<div><p>other</p>\n</div>");
  });
});
