// Stands in for the package "entities", of which markdown-it uses one function:
// every browser has the whole table already.

let area: HTMLTextAreaElement | undefined;

/** decodeHTMLStrict decodes one character reference, such as "&hellip;". */
export function decodeHTMLStrict(text: string): string {
  if (!/^&#?\w+;$/.test(text)) return text;
  area ??= document.createElement("textarea");
  area.innerHTML = text; // a text area holds text only, and the text is one reference
  return area.value;
}
