import { api, asProblem, type Problem } from "../api/client";
import { follow, offsetOf } from "../api/turns";
import type { Conversation, Turn } from "../api/types";
import { refreshMe } from "../ui/session";
import { Store } from "../ui/store";
import { refreshList } from "./list";

interface State {
  turns: Turn[];
  loaded: boolean;
  fault?: Problem; // of loading, or of the last act
}

const pending = "pending"; // the ID of a turn that the server has not confirmed

type Frame = (f: () => void) => void;

/** nextFrame waits for the next picture; a hidden page makes none, so it does not wait there. */
const nextFrame: Frame = (f) => {
  if (document.visibilityState === "visible") requestAnimationFrame(f);
  else setTimeout(f, 100);
};

/**
 * Thread is one conversation on the page: its turns, and the stream of the one
 * that is running. The server keeps all of it; a thread may be closed and made
 * again at any time.
 */
export class Thread {
  readonly id: string;
  readonly state = new Store<State>({ turns: [], loaded: false });
  /** lost says that the stream is cut off and being taken up again. */
  readonly lost = new Store(false);
  /** returned is a text that could not be sent, to be offered again. */
  readonly returned = new Store("");
  model = "";
  title = "";
  private readonly frame: Frame;
  private unfollow = () => {};
  private closed = false;
  private reloaded = false;
  private waiting = { reasoning: "", answer: "", asked: false };

  constructor(id: string, frame: Frame = nextFrame) {
    this.id = id;
    this.frame = frame;
  }

  running(): Turn | undefined {
    const last = this.state.get().turns.at(-1);
    return last?.state === "running" ? last : undefined;
  }

  /** load fetches the turns and takes up the one that is running. */
  async load(): Promise<void> {
    try {
      const c = await api.get<Conversation & { turns: Turn[] | null }>(`/api/conversations/${this.id}`);
      if (this.closed) return;
      this.model = c.model;
      this.title = c.title;
      if (this.running()?.id === pending) return; // something was sent meanwhile
      this.state.set({ turns: c.turns ?? [], loaded: true });
      this.attach();
    } catch (err) {
      this.fail(err);
    }
  }

  /** begin marks a thread that was made just now: there is nothing to load. */
  begin(model: string): void {
    this.model = model;
    this.state.set({ turns: [], loaded: true });
  }

  /** send asks a question; it reports whether the server took it. */
  async send(text: string, model: string): Promise<boolean> {
    const turn: Turn = { id: pending, conversation: this.id, text, model, state: "running", created: new Date().toISOString() };
    const before = this.state.get().turns;
    this.state.set({ turns: [...before, turn], loaded: true });
    this.returned.set("");
    const took = await this.post({ text, model }, before, before);
    if (!took) this.returned.set(text);
    return took;
  }

  /** regenerate asks the last question again. */
  async regenerate(turn: Turn, model: string): Promise<boolean> {
    const before = this.state.get().turns;
    const rest = before.filter((other) => other.id !== turn.id);
    this.state.set({ turns: [...rest, { ...turn, id: pending, model, reasoning: "", answer: "", state: "running", error: null, usage: null }], loaded: true });
    return this.post({ regenerate: turn.id, model }, before, rest);
  }

  private async post(body: object, before: Turn[], rest: Turn[]): Promise<boolean> {
    try {
      const made = await api.post<Turn>(`/api/conversations/${this.id}/turns`, body);
      this.model = made.model;
      this.state.set({ turns: [...rest, made], loaded: true });
      this.attach();
      void refreshList();
      return true;
    } catch (err) {
      this.state.set({ turns: before, loaded: true, fault: asProblem(err) });
      return false;
    }
  }

  /** stop ends the running answer; what came so far stays. */
  async stop(): Promise<void> {
    const turn = this.running();
    if (!turn || turn.id === pending) return;
    try {
      await api.post(`/api/turns/${turn.id}/stop`);
    } catch (err) {
      this.fail(err);
    }
  }

  /** refresh catches up with what other devices did; a running answer is followed anyway. */
  refresh(): void {
    if (this.state.get().loaded && !this.running()) void this.load();
  }

  /** dismiss takes the last fault away. */
  dismiss(): void {
    const { turns, loaded } = this.state.get();
    this.state.set({ turns, loaded });
  }

  /** close lets go of the stream; the server carries on. */
  close(): void {
    this.closed = true;
    this.unfollow();
  }

  private fail(err: unknown): void {
    if (!this.closed) this.state.set({ ...this.state.get(), fault: asProblem(err) });
  }

  private attach(): void {
    const turn = this.running();
    this.unfollow();
    this.lost.set(false);
    this.waiting = { reasoning: "", answer: "", asked: false };
    if (!turn || this.closed) return;
    this.unfollow = follow(turn.id, offsetOf(turn), {
      onReasoning: (text) => this.collect("reasoning", text),
      onText: (text) => this.collect("answer", text),
      onLost: this.lost.set,
      onDone: (done) => {
        this.lost.set(false);
        this.waiting = { reasoning: "", answer: "", asked: false };
        this.replace(turn.id, () => done);
        void refreshMe().catch(() => undefined);
        void refreshList();
      },
      onProblem: (p) => {
        this.lost.set(false);
        // The server holds less than we do, for it broke off before it saved:
        // what it holds counts.
        if (p.code === "invalid_request" && !this.reloaded) {
          this.reloaded = true;
          void this.load();
        } else this.fail(p);
      },
    });
  }

  /** collect gathers what arrives, to be drawn once for each picture. */
  private collect(kind: "reasoning" | "answer", text: string): void {
    this.waiting[kind] += text;
    if (this.waiting.asked) return;
    this.waiting.asked = true;
    this.frame(() => this.flush());
  }

  private flush(): void {
    const { reasoning, answer } = this.waiting;
    this.waiting = { reasoning: "", answer: "", asked: false };
    const turn = this.running();
    if (!turn || this.closed || (!reasoning && !answer)) return;
    this.replace(turn.id, (now) => ({ ...now, reasoning: (now.reasoning ?? "") + reasoning, answer: (now.answer ?? "") + answer }));
  }

  private replace(id: string, f: (t: Turn) => Turn): void {
    const now = this.state.get();
    this.state.set({ ...now, turns: now.turns.map((turn) => (turn.id === id ? f(turn) : turn)) });
  }
}

const open = new Map<string, Thread>();

/** threadOf is the thread of a conversation, loading it if it is not open. */
export function threadOf(id: string): Thread {
  let thread = open.get(id);
  if (!thread) {
    thread = new Thread(id);
    open.set(id, thread);
    void thread.load();
  }
  return thread;
}

/** startThread makes a conversation on the server and opens it. */
export async function startThread(model: string): Promise<Thread> {
  const c = await api.post<Conversation>("/api/conversations", { model });
  const thread = new Thread(c.id);
  thread.begin(model);
  open.set(c.id, thread);
  return thread;
}

/** closeThread lets a thread go. */
export function closeThread(thread: Thread): void {
  thread.close();
  if (open.get(thread.id) === thread) open.delete(thread.id);
}
