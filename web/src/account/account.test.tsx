import { fireEvent, screen, waitFor, within } from "@testing-library/preact";
import { beforeEach, describe, expect, it } from "vitest";
import type { Site } from "../api/types";
import { ended, me, site } from "../ui/session";
import { fakeFetch, problem } from "../test/fakeFetch";
import { renderAt } from "../test/render";
import { Keys } from "./keys";
import { Login, next } from "./login";
import { namesIn, Setup } from "./setup";
import { snippets } from "./snippets";
import { UsagePage } from "./usage";

const here: Site = { name: "Jimu", currency: "CNY", version: "1", setup_needed: false, demo: true };
const owner = { id: "u", name: "Mu", role: "owner", credit: { balance: "10", held: "0" } };

beforeEach(() => {
  site.set(here);
  me.set(null);
  ended.set(false);
  location.hash = "";
});

const type = (label: string | RegExp, value: string) => fireEvent.input(screen.getByLabelText(label), { target: { value } });

describe("Setup", () => {
  beforeEach(() => site.set({ ...here, setup_needed: true }));

  it("makes the owner with the link's secret and goes to the chat", async () => {
    location.hash = "#s3cret";
    const calls = fakeFetch({ "POST /api/setup": { name: "Mu", role: "owner" }, "GET /api/me": owner, "GET /api/site": here });
    const history = renderAt("/setup", <Setup />);
    type("User name", "Mu");
    type("Password", "four plain words");
    fireEvent.click(screen.getByText("Start"));
    await waitFor(() => expect(history.at(-1)).toBe("/"));
    expect(calls[0]?.body).toEqual({ secret: "s3cret", name: "Mu", password: "four plain words" });
  });

  it("connects an upstream if one is given", async () => {
    location.hash = "#s";
    const calls = fakeFetch({ "POST /api/setup": {}, "GET /api/me": owner, "GET /api/site": here });
    renderAt("/setup", <Setup />);
    type("User name", "Mu");
    type("Password", "four plain words");
    type("Base URL", "https://api.example.com/v1");
    type("API key of the service", "sk-1");
    type("Models", "a, b，c");
    fireEvent.click(screen.getByText("Start"));
    await waitFor(() => expect(calls).not.toHaveLength(0));
    expect(calls[0]?.body).toHaveProperty("upstream", { base_url: "https://api.example.com/v1", key: "sk-1", free: true, models: ["a", "b", "c"] });
  });

  it("tells when the account is made but the upstream is not", async () => {
    location.hash = "#s";
    fakeFetch({ "POST /api/setup": { name: "Mu", role: "owner", upstream_error: "no answer" }, "GET /api/me": owner, "GET /api/site": here });
    const history = renderAt("/setup", <Setup />);
    type("User name", "Mu");
    type("Password", "four plain words");
    fireEvent.click(screen.getByText("Start"));
    expect(await screen.findByText(/The reason: no answer\./)).toBeTruthy();
    fireEvent.click(screen.getByText("Go on"));
    expect(history.at(-1)).toBe("/");
  });

  it("counts characters as people do while the password is typed, and asks nobody before it is long enough", () => {
    location.hash = "#s";
    const calls = fakeFetch({});
    renderAt("/setup", <Setup />);
    type("User name", "Mu");
    type("Password", "四个字🧱");
    expect(screen.getByText("At least 12 characters, 8 to go")).toBeTruthy();
    fireEvent.click(screen.getByText("Start"));
    expect(screen.getByLabelText("Password").getAttribute("aria-invalid")).toBe("true");
    expect(calls).toEqual([]);
  });

  it("shows the server's objection at its field", async () => {
    location.hash = "#s";
    fakeFetch({ "POST /api/setup": problem(400, "invalid_request", "raw", "password") });
    renderAt("/setup", <Setup />);
    type("User name", "Mu");
    type("Password", "passwordpassword");
    fireEvent.click(screen.getByText("Start"));
    expect((await screen.findByText(/^This password is too short, too regular/)).className).toBe("fault");
  });

  it.each([
    ["a wrong or expired link", problem(403, "forbidden", "", "secret"), "This link is wrong or has expired"],
    ["a server that has an owner", problem(409, "conflict"), "Already set up"],
  ])("says what to do about %s", async (_, answer, title) => {
    location.hash = "#s";
    fakeFetch({ "POST /api/setup": answer });
    renderAt("/setup", <Setup />);
    type("User name", "Mu");
    type("Password", "four plain words");
    fireEvent.click(screen.getByText("Start"));
    expect(await screen.findByText(title)).toBeTruthy();
  });

  it("wants the whole link", () => {
    renderAt("/setup", <Setup />);
    expect(screen.getByText("This link is incomplete")).toBeTruthy();
  });
});

describe("Login", () => {
  it("signs in and goes where one wanted to go", async () => {
    fakeFetch({ "POST /api/session": {}, "GET /api/me": owner });
    const history = renderAt("/login", <Login />);
    type("User name", " Mu ");
    type("Password", "pw");
    fireEvent.click(screen.getByRole("button", { name: "Sign in" }));
    await waitFor(() => expect(history.at(-1)).toBe("/"));
  });

  it("says that name or password is wrong", async () => {
    fakeFetch({ "POST /api/session": problem(401, "unauthorized") });
    renderAt("/login", <Login />);
    type("User name", "Mu");
    type("Password", "no");
    fireEvent.click(screen.getByRole("button", { name: "Sign in" }));
    expect((await screen.findByRole("alert")).textContent).toContain("not right");
  });

  it("explains what a new server needs", () => {
    site.set({ ...here, setup_needed: true });
    renderAt("/login", <Login />);
    expect(screen.getByText("This server has no owner yet")).toBeTruthy();
  });

  it.each([
    ["?next=%2Fkeys", "/keys"],
    ["?next=%2Fc%2Fabc_1-x", "/c/abc_1-x"],
    ["?next=%2F%2Fevil.example", "/"],
    ["?next=%2F%5Cevil.example", "/"],
    ["?next=https%3A%2F%2Fevil.example", "/"],
    ["?next=javascript%3Aalert(1)", "/"],
    ["", "/"],
  ])("goes from %s to %s", (search, to) => expect(next(search)).toBe(to));
});

describe("Keys", () => {
  const key = { id: "k1", name: "site", tail: "9xYz", limit: "5", spent: "0.5", created: "2026-01-01T00:00:00Z" };

  it("makes a key, shows it once and how to use it, and revokes it by name", async () => {
    const rows: object[] = [];
    const calls = fakeFetch({
      "GET /api/keys?limit=50": () => ({ data: [...rows], next: "" }),
      "GET /api/models": { data: [{ id: "demo", demo: true, price: { in: "1", out: "2" } }] },
      "POST /api/keys": () => {
        rows.push(key);
        return { ...key, key: "jm_secret9xYz" };
      },
      "DELETE /api/keys/k1": undefined,
    });
    renderAt("/keys", <Keys />);
    expect(await screen.findByText("No keys yet")).toBeTruthy();
    fireEvent.click(screen.getByText("New key"));
    type("Name", "site");
    type("Spending limit", "5");
    fireEvent.click(await screen.findByLabelText("demo"));
    fireEvent.click(screen.getByText("Create"));
    expect(await screen.findByText("jm_secret9xYz")).toBeTruthy();
    expect(calls.find((c) => c.method === "POST")?.body).toEqual({ name: "site", limit: "5", models: ["demo"] });
    expect(document.querySelector("dialog pre")?.textContent).toContain(`${location.origin}/v1/chat/completions`);
    fireEvent.click(screen.getByText("I have saved it"));
    await waitFor(() => expect(document.body.textContent).not.toContain("jm_secret9xYz"));

    expect((await screen.findByText("jm_…9xYz")).tagName).toBe("CODE");
    expect(screen.getByText("¥0.5000 / ¥5.0000")).toBeTruthy();
    fireEvent.click(screen.getByLabelText("Revoke “site”"));
    const dialog = within(screen.getByRole("dialog", { hidden: true }));
    expect(dialog.getByText(/“site” \(ending in 9xYz\)/)).toBeTruthy();
    fireEvent.click(dialog.getByText("Revoke"));
    await waitFor(() => expect(calls.some((c) => c.method === "DELETE")).toBe(true));
  });

  it("refuses a limit that is no amount", async () => {
    const calls = fakeFetch({ "GET /api/keys?limit=50": { data: [], next: "" }, "GET /api/models": { data: [] } });
    renderAt("/keys", <Keys />);
    fireEvent.click(screen.getByText("New key"));
    type("Name", "n");
    type("Spending limit", "a lot");
    fireEvent.click(screen.getByText("Create"));
    expect(screen.getByText("Write an amount, such as 20 or 0.5")).toBeTruthy();
    expect(calls.every((c) => c.method === "GET")).toBe(true);
  });

  it("offers to try again when the list does not load", async () => {
    fakeFetch({ "GET /api/keys?limit=50": problem(500, "internal") });
    renderAt("/keys", <Keys />);
    expect(await screen.findByText("The list of keys did not load.")).toBeTruthy();
    fakeFetch({ "GET /api/keys?limit=50": { data: [], next: "" } });
    fireEvent.click(screen.getByText("Try again"));
    expect(await screen.findByText("No keys yet")).toBeTruthy();
  });
});

describe("UsagePage", () => {
  const row = { request: "r1", at: "2026-01-01T00:00:00Z", op: "chat", model: "demo", state: "ok", usage: { in_text: 1200, in_cached: 34, out_text: 5 }, cost: "0.0012", took_ms: 1500 };

  it("lists requests page by page", async () => {
    fakeFetch({ "GET /api/usage?limit=50": { data: [row], next: "n 1" }, "GET /api/usage?limit=50&cursor=n%201": { data: [{ ...row, request: "r2", key: "k", key_name: "site", state: "refused", code: "insufficient_credit" }], next: "" } });
    renderAt("/usage", <UsagePage />);
    expect(await screen.findByText("1,234")).toBeTruthy();
    expect(screen.getByText("¥0.0012")).toBeTruthy();
    expect(screen.getByText("1.5 s")).toBeTruthy();
    expect(screen.getByText("Chat page")).toBeTruthy();
    fireEvent.click(screen.getByText("Load more"));
    expect(await screen.findByText("Refused")).toBeTruthy();
    expect(screen.getByText("site")).toBeTruthy();
    expect(screen.queryByText("Load more")).toBeNull();
  });

  it("shows the statement with the sign first, and all decimals in the details", async () => {
    fakeFetch({ "GET /api/statement?limit=50": { data: [{ seq: 2, kind: "usage", amount: "-0.001098", after: "9.998902", ref: "r1", at: row.at, model: "demo", usage: row.usage }], next: "" } });
    renderAt("/usage?tab=statement", <UsagePage />);
    expect(await screen.findByText("−¥0.0011")).toBeTruthy();
    expect(screen.getByText("¥9.9989")).toBeTruthy();
    fireEvent.click(screen.getByRole("button", { name: "Details" }));
    expect(screen.getByText("−¥0.001098000")).toBeTruthy();
  });
});

describe("small parts", () => {
  it("splits names as people write them", () => expect(namesIn(" a,b，c、d  e\n")).toEqual(["a", "b", "c", "d", "e"]));
  it("puts address, key and model into each snippet", () => {
    for (const s of snippets("https://x/v1", "jm_k", "m")) for (const part of ["https://x/v1", "jm_k", '"m"']) expect(s.code).toContain(part);
  });
});
