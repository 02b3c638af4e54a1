import { fireEvent, screen, waitFor, within } from "@testing-library/preact";
import { beforeEach, describe, expect, it, vi } from "vitest";
import type { Conversation, Turn } from "../api/types";
import { fakeFetch, problem, Stream } from "../test/fakeFetch";
import { renderAt } from "../test/render";
import { Side } from "../shell/Side";
import { me, site } from "../ui/session";
import { Chat } from "./chat";
import { forgetList, grouped } from "./list";
import { models, pick } from "./models";
import { Thread } from "./thread";

const owner = { id: "u", name: "Mu", role: "owner" as const, credit: { balance: "10", held: "0" } };
const demo = { id: "demo", demo: true, abilities: ["chat"], price: { in: "2", out: "8" } };
const turn = (over: Partial<Turn> = {}): Turn => ({
  id: "t1",
  conversation: "c1",
  text: "question",
  reasoning: "",
  answer: "",
  model: "demo",
  state: "running",
  cost: "0",
  created: "2026-01-01T00:00:00Z",
  ...over,
});
const ended = turn({ state: "done", answer: "**注意：**请看", usage: { in: 10, out: 1234 }, cost: "0.0123" });
const chat = { id: "c1", title: "A talk", model: "demo", created: "2026-01-01T00:00:00Z", updated: "2026-01-01T00:00:00Z" };
const common = {
  "GET /api/models": { data: [demo] },
  "GET /api/me": { ...owner, credit: { balance: "9.9877", held: "0" } },
  "GET /api/conversations?limit=50": { data: [chat], next: "" },
};

beforeEach(() => {
  models.set({ all: [], loaded: false });
  forgetList();
  site.set({ name: "Jimu", currency: "CNY", version: "1", setup_needed: false, demo: true });
  me.set(owner);
  vi.stubGlobal("matchMedia", () => ({ matches: false, addEventListener: () => {} }));
});

const composer = () => screen.getByLabelText("Your message");
const ready = async () => {
  await screen.findByText("demo");
  await screen.findByLabelText("Your message");
};
const write = (text: string) => fireEvent.input(composer(), { target: { value: text } });
const enter = (more: object = {}) => fireEvent.keyDown(composer(), { key: "Enter", ...more });

describe("Chat", () => {
  it("streams an answer and then shows what it cost", async () => {
    const s = new Stream();
    const calls = fakeFetch({
      ...common,
      "GET /api/conversations/c1": { ...chat, turns: [] },
      "POST /api/conversations/c1/turns": turn(),
      "GET /api/turns/t1/events?after=0": s.response,
    });
    renderAt("/c/c1", <Chat id="c1" />);
    await ready();
    write("question");
    enter();
    await waitFor(() => expect(calls.find((c) => c.path.endsWith("/turns"))?.body).toEqual({ text: "question", model: "demo" }));
    expect((composer() as HTMLTextAreaElement).value).toBe("");
    expect(screen.getByRole("log").getAttribute("aria-busy")).toBe("true");
    expect(screen.getByLabelText("Stop answering")).toBeTruthy();

    s.event("reasoning", 5, { text: "hmmmm" });
    s.event("text", 16, { text: "**注意" });
    expect(await screen.findByText(/注意/)).toBeTruthy();
    expect(document.querySelector("details.thoughts")?.hasAttribute("open")).toBe(false);
    s.event("text", 30, { text: "：**请看" });
    s.event("done", 30, ended);
    expect((await screen.findByText("注意：")).tagName).toBe("STRONG");
    await screen.findByText("10 tokens in · 1,234 out");
    expect(screen.getByText("¥0.0123")).toBeTruthy();
    expect(screen.getAllByText("Demo").length).toBeGreaterThan(0);
    expect(screen.getByRole("log").getAttribute("aria-busy")).toBe("false");
    expect(await screen.findByText("¥9.9877")).toBeTruthy();
    expect(screen.getByText("Answer complete")).toBeTruthy();
  });

  it("takes a running answer up where the page was left", async () => {
    const s = new Stream();
    const calls = fakeFetch({ ...common, "GET /api/conversations/c1": { ...chat, turns: [turn({ reasoning: "想", answer: "half " })] }, "GET /api/turns/t1/events?after=8": s.response });
    renderAt("/c/c1", <Chat id="c1" />);
    await waitFor(() => expect(calls.some((c) => c.path.endsWith("after=8"))).toBe(true));
    s.event("text", 12, { text: "done" });
    expect(await screen.findByText("half done")).toBeTruthy();
  });

  it("takes the server's word when it holds less than the page", async () => {
    const answers = [turn({ answer: "half and more" }), turn({ answer: "half", state: "interrupted" })];
    fakeFetch({ ...common, "GET /api/conversations/c1": () => ({ ...chat, turns: [answers.shift()] }), "GET /api/turns/t1/events?after=13": problem(400, "invalid_request", "after", "after") });
    renderAt("/c/c1", <Chat id="c1" />);
    expect(await screen.findByText("half")).toBeTruthy();
    expect(screen.getByText("This answer broke off; what had arrived is kept.")).toBeTruthy();
  });

  it("stops an answer on the server", async () => {
    const s = new Stream();
    const calls = fakeFetch({ ...common, "GET /api/conversations/c1": { ...chat, turns: [turn()] }, "GET /api/turns/t1/events?after=0": s.response, "POST /api/turns/t1/stop": undefined });
    renderAt("/c/c1", <Chat id="c1" />);
    fireEvent.click(await screen.findByLabelText("Stop answering"));
    await waitFor(() => expect(calls.some((c) => c.path.endsWith("/stop"))).toBe(true));
    s.event("done", 4, turn({ state: "stopped", answer: "half" }));
    expect(await screen.findByText("Stopped. What is above has been billed.")).toBeTruthy();
  });

  it.each([
    ["interrupted", turn({ state: "interrupted", answer: "ha" }), "This answer broke off; what had arrived is kept."],
    ["failed", turn({ state: "failed", error: { code: "insufficient_credit", text: "raw" } }), /Ask an administrator for credit/],
    ["failed for a reason only the server knows", turn({ state: "failed", error: { code: "invalid_request", text: "the server's own words" } }), "the server's own words"],
  ])("offers to ask again after an answer that %s", async (_, last, words) => {
    const s = new Stream();
    const calls = fakeFetch({ ...common, "GET /api/conversations/c1": { ...chat, turns: [last] }, "POST /api/conversations/c1/turns": turn({ id: "t2" }), "GET /api/turns/t2/events?after=0": s.response });
    renderAt("/c/c1", <Chat id="c1" />);
    expect(await screen.findByText(words)).toBeTruthy();
    fireEvent.click(screen.getAllByText("Answer again")[0] as HTMLElement);
    await waitFor(() => expect(calls.find((c) => c.method === "POST")?.body).toEqual({ regenerate: "t1", model: "demo" }));
    s.event("done", 9, { ...ended, id: "t2", answer: "new answer" });
    expect(await screen.findByText("new answer")).toBeTruthy();
    expect(document.querySelectorAll("article")).toHaveLength(1);
  });

  it("gives the text back when it could not be sent", async () => {
    fakeFetch({ ...common, "GET /api/conversations/c1": { ...chat, turns: [] }, "POST /api/conversations/c1/turns": problem(402, "insufficient_credit") });
    renderAt("/c/c1", <Chat id="c1" />);
    await ready();
    write("precious words");
    enter();
    expect((await screen.findByRole("alert")).textContent).toContain("does not cover");
    await waitFor(() => expect((composer() as HTMLTextAreaElement).value).toBe("precious words"));
    expect(document.querySelectorAll("article")).toHaveLength(0);
  });

  it("leaves Enter to the input method and Shift+Enter to the text", async () => {
    const calls = fakeFetch({ ...common, "GET /api/conversations/c1": { ...chat, turns: [] } });
    renderAt("/c/c1", <Chat id="c1" />);
    await ready();
    write("nihao");
    enter({ isComposing: true });
    enter({ keyCode: 229 });
    enter({ shiftKey: true });
    expect(calls.every((c) => c.method === "GET")).toBe(true);
  });

  it("begins a conversation with the first message", async () => {
    const s = new Stream();
    const calls = fakeFetch({ ...common, "POST /api/conversations": { ...chat, id: "c9" }, "POST /api/conversations/c9/turns": turn(), "GET /api/turns/t1/events?after=0": s.response });
    const history = renderAt("/", <Chat />);
    expect(screen.getByText(/Only the built-in demo model is connected/)).toBeTruthy();
    await ready();
    write("question");
    enter();
    await waitFor(() => expect(history.at(-1)).toBe("/c/c9"));
    expect(calls.find((c) => c.path === "/api/conversations")?.body).toEqual({ model: "demo" });
  });

  it("says so when a conversation is not there", async () => {
    fakeFetch({ ...common, "GET /api/conversations/c1": problem(404, "not_found") });
    renderAt("/c/c1", <Chat id="c1" />);
    expect(await screen.findByText("No such conversation")).toBeTruthy();
  });

  it("shows a model's price with its unit, and does not offer what has none", async () => {
    fakeFetch({ ...common, "GET /api/models": { data: [demo, { id: "raw", price: null }] } });
    renderAt("/", <Chat />);
    fireEvent.click(await screen.findByRole("button", { name: /demo/ }));
    const options = screen.getAllByRole("option");
    expect(options.map((o) => o.textContent)).toEqual(["demoDemo¥2 in, ¥8 out, per million tokens", "rawNo price yet, cannot be used"]);
    fireEvent.click(options[1] as HTMLElement);
    expect(screen.getAllByRole("option")).toHaveLength(2);
    fireEvent.keyDown(options[0] as HTMLElement, { key: "Escape" });
    expect(screen.queryByRole("listbox")).toBeNull();
  });
});

describe("Thread", () => {
  it("draws once for each picture, however much arrives", async () => {
    const s = new Stream();
    fakeFetch({ ...common, "GET /api/conversations/c1": { ...chat, turns: [turn()] }, "GET /api/turns/t1/events?after=0": s.response });
    const frames: (() => void)[] = [];
    const thread = new Thread("c1", (f) => frames.push(f));
    await thread.load();
    let drawn = 0;
    thread.state.watch(() => drawn++);
    for (let i = 1; i <= 20; i++) s.event("text", i, { text: "x" });
    await vi.waitFor(() => expect(frames).toHaveLength(1));
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(drawn).toBe(0);
    frames[0]?.();
    expect(drawn).toBe(1);
    expect(thread.running()?.answer).toBe("x".repeat(20));
    thread.close();
  });
});

describe("Side", () => {
  it("renames in place and deletes after asking by name", async () => {
    const calls = fakeFetch({ ...common, "PATCH /api/conversations/c1": { ...chat, title: "New" }, "DELETE /api/conversations/c1": undefined });
    const history = renderAt("/c/c1", <Side />);
    fireEvent.click(await screen.findByLabelText("Rename “A talk”"));
    const input = screen.getByLabelText("New name of the conversation");
    fireEvent.input(input, { target: { value: "New" } });
    fireEvent.keyDown(input, { key: "Enter" });
    expect((await screen.findByText("New")).tagName).toBe("A");
    expect(calls.find((c) => c.method === "PATCH")?.body).toEqual({ title: "New" });

    fireEvent.click(screen.getByLabelText("Delete “New”"));
    const dialog = within(screen.getByRole("dialog", { hidden: true }));
    expect(dialog.getByText(/“New” and every answer in it/)).toBeTruthy();
    fireEvent.click(dialog.getByText("Delete"));
    await waitFor(() => expect(history.at(-1)).toBe("/"));
    expect(screen.queryByText("New")).toBeNull();
  });

  it("leaves the title alone on Escape", async () => {
    const calls = fakeFetch(common);
    renderAt("/", <Side />);
    fireEvent.click(await screen.findByLabelText("Rename “A talk”"));
    fireEvent.keyDown(screen.getByLabelText("New name of the conversation"), { key: "Escape" });
    expect(await screen.findByText("A talk")).toBeTruthy();
    expect(calls.every((c) => c.method === "GET")).toBe(true);
  });

  it("puts conversations under the day of their last use", () => {
    const now = new Date(2026, 5, 15, 12);
    const at = (d: Date, id: string): Conversation => ({ ...chat, id, updated: d.toISOString() });
    const items = [at(new Date(2026, 5, 15, 1), "a"), at(new Date(2026, 5, 14, 23), "b"), at(new Date(2026, 5, 10), "c"), at(new Date(2026, 4, 20), "d"), at(new Date(2026, 2, 1), "e"), at(new Date(2026, 2, 2), "f")];
    expect(grouped(items, now).map((g) => [g.heading, g.items.map((c) => c.id).join("")])).toEqual([
      ["Today", "a"],
      ["Yesterday", "b"],
      ["Past 7 days", "c"],
      ["Past 30 days", "d"],
      ["March 2026", "ef"],
    ]);
  });
});

describe("pick", () => {
  const free = { id: "free", price: null };
  const real = { id: "real", price: { in: "1", out: "1" } };
  it("prefers what was asked for, then the last choice, then a model that can be used", () => {
    expect(pick([demo, real], "demo")).toBe("demo");
    expect(pick([free, demo, real], "gone")).toBe("real");
    expect(pick([free, demo], "")).toBe("demo");
    localStorage.setItem("jimu.model", "demo");
    expect(pick([real, demo], "")).toBe("demo");
    expect(pick([], "x")).toBe("");
  });
});
