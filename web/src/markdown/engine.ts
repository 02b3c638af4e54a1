import MarkdownItParser, { type MarkdownIt, type RendererRule, type Token } from "markdown-it";
import cjkFriendly from "markdown-it-cjk-friendly";
import { t } from "../i18n";

const escape = (s: string) => s.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

const tokenAt = (tokens: Token[], i: number) => tokens[i] as Token;

/** languageOf is the first word after a fence, reduced to what a language can be called. */
export const languageOf = (info: string): string => (/^[\w+#.-]{1,30}/.exec(info.trim())?.[0] ?? "").toLowerCase();

function code(text: string, info: string): string {
  const lang = languageOf(info);
  return (
    `<div class="code"><div class="code-head"><span>${escape(lang) || "&nbsp;"}</span>` +
    `<button type="button" class="quiet small" data-copy>${escape(t("copy"))}</button></div>` +
    `<pre tabindex="0"><code data-lang="${escape(lang)}">${escape(text)}</code></pre></div>\n`
  );
}

/**
 * newEngine makes the one Markdown parser of the page. It knows no raw HTML
 * and writes no style attribute, since the page's policy refuses both.
 */
function newEngine(): MarkdownIt {
  const md = new MarkdownItParser({ html: false, linkify: true, breaks: false }).use(cjkFriendly);
  md.linkify.set({ fuzzyLink: false, fuzzyEmail: false });
  const rules = md.renderer.rules;

  rules.fence = (tokens, i) => code(tokenAt(tokens, i).content, tokenAt(tokens, i).info);
  rules.code_block = (tokens, i) => code(tokenAt(tokens, i).content, "");
  rules.link_open = (tokens, i, options, _env, self) => {
    tokenAt(tokens, i).attrSet("rel", "noopener noreferrer nofollow");
    tokenAt(tokens, i).attrSet("target", "_blank");
    return self.renderToken(tokens, i, options);
  };
  // A picture from elsewhere would tell a stranger who reads what, so it is a link.
  rules.image = (tokens, i, options, env, self) => {
    const token = tokenAt(tokens, i);
    const src = String(token.attrGet("src") ?? "");
    const alt = self.renderInlineAsText(token.children ?? [], options, env);
    if (/^data:image\/(gif|png|jpeg|webp);base64,/.test(src)) return `<img src="${escape(src)}" alt="${escape(alt)}">`;
    return `<a href="${escape(src)}" rel="noopener noreferrer nofollow" target="_blank">${escape(alt || src)}</a>`;
  };
  const cell: RendererRule = (tokens, i, options, _env, self) => {
    const token = tokenAt(tokens, i);
    const align = /text-align:(\w+)/.exec(String(token.attrGet("style") ?? ""))?.[1];
    token.attrs = align ? [["class", `to-${align}`]] : null;
    return self.renderToken(tokens, i, options);
  };
  rules.th_open = cell;
  rules.td_open = cell;
  rules.table_open = () => '<div class="table" tabindex="0"><table>\n';
  rules.table_close = () => "</table></div>\n";
  return md;
}

let engine: MarkdownIt | undefined;

/** markdown is the parser, made at first use. */
export function markdown(): MarkdownIt {
  engine ??= newEngine();
  return engine;
}
