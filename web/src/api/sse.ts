/** Event is one server-sent event. */
export interface Event {
  type: string;
  data: string;
  id: string;
}

/**
 * SSEParser turns bytes, cut anywhere, into events: a character or a line may
 * be split over two pieces, lines end with LF, CRLF or CR. An event that was
 * not ended by an empty line is dropped, as the standard says.
 */
export class SSEParser {
  private readonly decoder = new TextDecoder("utf-8");
  private readonly emit: (e: Event) => void;
  private rest = "";
  private afterCR = false;
  private type = "";
  private data: string[] = [];
  private id = "";

  constructor(emit: (e: Event) => void) {
    this.emit = emit;
  }

  push(bytes: Uint8Array): void {
    let text = this.decoder.decode(bytes, { stream: true });
    if (text === "") return;
    if (this.afterCR && text.startsWith("\n")) text = text.slice(1);
    this.afterCR = text.endsWith("\r");
    const lines = (this.rest + text).split(/\r\n|\n|\r/);
    this.rest = lines.pop() ?? "";
    for (const line of lines) this.line(line);
  }

  private line(line: string): void {
    if (line === "") {
      if (this.data.length > 0) this.emit({ type: this.type || "message", data: this.data.join("\n"), id: this.id });
      this.type = "";
      this.data = [];
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return; // a comment keeps the connection open
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (field === "data") this.data.push(value);
    else if (field === "event") this.type = value;
    else if (field === "id" && !value.includes("\0")) this.id = value;
  }
}
