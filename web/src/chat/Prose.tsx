import { useEffect, useRef, useState } from "react";

type Markdown = typeof import("../markdown/renderer");
type View = InstanceType<Markdown["View"]>;

let ready: Markdown | undefined;
const loading = import("../markdown/renderer").then((m) => {
  ready = m;
});

/** Prose shows Markdown, as it grows; plain until the parser has arrived. */
export function Prose({ text, done }: { text: string; done: boolean }) {
  const ref = useRef<HTMLDivElement>(null);
  const view = useRef<View | null>(null);
  const [, wake] = useState(ready);

  useEffect(() => {
    if (!ready) void loading.then(() => wake(ready)).catch(() => undefined);
  }, []);
  useEffect(() => {
    if (!ready || !ref.current) return;
    if (!view.current) {
      ref.current.textContent = "";
      view.current = new ready.View(ref.current);
    }
    view.current.update(text, done);
  });

  // The children belong to the view; the key keeps the renderer from mixing its own in.
  return ready ? <div key="view" ref={ref} className={done ? "prose" : "prose live"} /> : <div key="plain" className="prose plain">{text}</div>;
}
