// The pages in a real browser against the real binary (or, with --fake, the
// stand-in): a newcomer's whole way, both languages, each theme, a phone.
import assert from "node:assert/strict";
import { available, open, shots } from "./browser.mjs";
import { serve } from "./server.mjs";

const name = "小木";
const password = "quiet lamp over the river";

if (!available()) {
  if (process.env.CI === "true") throw new Error("chromium is missing; install it (apt-get install chromium) or set JIMU_CHROMIUM");
  console.log("SKIP e2e: chromium is missing; install it (apt-get install chromium) or set JIMU_CHROMIUM");
  process.exit(0);
}

const server = await serve(process.argv.includes("--fake"));
const browser = await open();
const { url, link, real } = server;
let failed = 0;

async function step(what, f) {
  const began = Date.now();
  try {
    await f();
    const new_faults = browser.faults.splice(0);
    assert.deepEqual(new_faults, [], "the page did something wrong");
    console.log(`ok    ${what} (${Date.now() - began} ms)`);
  } catch (err) {
    failed++;
    console.log(`FAIL  ${what}\n      ${String(err.stack ?? err).replaceAll("\n", "\n      ")}`);
    await browser.shot(page, `failed-${failed}`).catch(() => undefined);
  }
}

/** needed is a step without which the later ones have no sense. */
async function needed(what, f) {
  const before = failed;
  await step(what, f);
  if (failed === before) return;
  await browser.close();
  await server.close();
  process.exit(1);
}

const ctx = await browser.context();
let page = await ctx.newPage();
page.on("dialog", (d) => {
  browser.faults.push(`dialog: ${d.message()}`);
  void d.dismiss();
});
const text = (selector) => page.locator(selector).innerText();
const api = (path) => page.evaluate(async (p) => (await fetch(p)).json(), path);
const idle = () => page.waitForLoadState("networkidle");
const fill = (label, value) => page.getByLabel(label, { exact: true }).fill(value);
const press = (role, label) => page.getByRole(role, { name: label, exact: true }).click();
const ask = async (question) => {
  await page.locator("textarea").fill(question);
  await page.keyboard.press("Enter");
};
const answered = () => page.locator(".turn:last-of-type .foot").waitFor({ timeout: 60_000 });
const looks = async (theme) => {
  await page.evaluate((t) => {
    localStorage.setItem("jimu.theme", t);
    document.documentElement.dataset.theme = t;
  }, theme);
  await page.waitForTimeout(250); // colours fade
};

await step("a wrong setup link says what to do", async () => {
  browser.allow(/status of 403.*\/api\/setup/);
  await page.goto(`${url}/setup#wrong`);
  await fill("用户名", name);
  await fill("密码", password);
  await press("button", "开始使用");
  await page.getByText("这个链接不对或已过期").waitFor();
  await browser.shot(page, "setup-bad");
  await page.goto("about:blank");
  await page.goto(`${url}/setup`);
  await page.getByText("这个链接不完整").waitFor();
});

await step("sign-in before the setup explains itself", async () => {
  await page.goto(`${url}/login`);
  await page.getByText("这台服务器还没有所有者").waitFor();
  await browser.shot(page, "login-no-owner");
});

await needed("the setup link makes the owner and ends in the chat", async () => {
  await page.goto("about:blank");
  await page.goto(link);
  await page.getByLabel("用户名", { exact: true }).waitFor();
  await browser.shot(page, "setup");
  await page.getByText("现在接入模型服务").click();
  await browser.audit(page, "setup");
  await browser.shot(page, "setup-upstream");
  await page.getByText("现在接入模型服务").click();
  await fill("用户名", name);
  await fill("密码", "short");
  await page.getByText("至少 12 个字符，还差 7 个").waitFor();
  await fill("密码", password);
  await press("button", "开始使用");
  await page.locator(".welcome").waitFor();
  await page.locator(".demo-note").waitFor();
  await idle();
  await browser.shot(page, "welcome");
  await browser.audit(page, "welcome");
});

await step("the model picker shows the demo and a price with its unit", async () => {
  await page.locator(".picker-button").click();
  const option = page.getByRole("option").first();
  await option.waitFor();
  assert.match(await option.innerText(), /演示[\s\S]*(每百万 token|免费)/);
  await browser.shot(page, "picker");
  await browser.audit(page, "picker");
  await page.keyboard.press("Escape");
  assert.equal(await page.getByRole("listbox").count(), 0);
});

await step("a question is answered by the demo in Markdown, streamed", async () => {
  await ask("你好，介绍一下自己");
  await page.waitForURL(/\/c\//);
  await page.locator('[role="log"][aria-busy="true"]').waitFor();
  await page.locator(".prose").waitFor();
  const before = (await text(".prose")).length;
  await page.waitForFunction((n) => (document.querySelector(".prose")?.textContent.length ?? 0) > n, before);
  await browser.shot(page, "streaming");
  await answered();
  assert.ok((await page.locator(".prose > div").count()) > 1, "the answer has blocks");
  assert.equal(await page.locator(".turn .badge", { hasText: "演示" }).count(), 1);
  assert.match(await text(".facts"), /输入 [\d,]+ · 输出 [\d,]+ token\s+<?¥\d+\.\d{4}/);
  await idle();
  await browser.shot(page, "chat");
  await browser.audit(page, "chat");
});

await step("a reload in the middle takes the answer up where it was", async () => {
  await ask("再说一遍，长一些 [long]");
  await page.waitForFunction(() => (document.querySelector('.turn:last-of-type .prose')?.textContent.length ?? 0) > 30);
  const asked = page.waitForRequest((r) => /\/events\?after=[1-9]/.test(r.url()));
  await page.reload();
  const request = await asked;
  assert.ok(Number(new URL(request.url()).searchParams.get("after")) > 30, "it resumes from an offset");
  await page.locator('[role="log"][aria-busy="true"]').waitFor();
  await answered();
  const id = new URL(page.url()).pathname.split("/").at(-1);
  const { turns } = await api(`/api/conversations/${id}`);
  assert.equal(turns.length, 2);
  const last = page.locator(".turn:last-of-type .prose");
  const joined = await last.textContent();
  assert.ok(turns[1].answer.length > 60 && turns[1].state === "done");
  await page.reload();
  await answered();
  await page.waitForFunction((t) => [...document.querySelectorAll(".turn:last-of-type .prose")].at(-1)?.textContent === t, joined);
});

await step("an answer can be stopped, and asked for again", async () => {
  await ask("说点别的 [long]");
  await page.waitForFunction(() => (document.querySelector('.turn:last-of-type .prose')?.textContent.length ?? 0) > 10);
  await page.getByRole("button", { name: "停止回答" }).click();
  await page.getByText("已停止。上面的内容已计费。").waitFor();
  await browser.shot(page, "stopped");
  await page.locator(".turn:last-of-type").getByRole("button", { name: "重新回答" }).click();
  await page.locator('[role="log"][aria-busy="true"]').waitFor();
  await answered();
  assert.equal(await page.locator(".turn").count(), 3);
});

await step("what is written stays text, in a question, an answer and a title", async () => {
  const attack = '<img src=x onerror=alert(1)><svg onload=alert(2)> <a href="javascript:alert(3)">x</a>';
  await ask(attack);
  await answered();
  assert.equal(await text(".turn:last-of-type .asked"), attack);
  assert.equal(await page.locator(".turn :is(img, script, iframe), .turn [onerror], .turn [onload], .turn a[href^='javascript']").count(), 0);
  const id = new URL(page.url()).pathname.split("/").at(-1);
  await page.evaluate(async ([c, title]) => fetch(`/api/conversations/${c}`, { method: "PATCH", headers: { "X-Jimu-CSRF": "1", "Content-Type": "application/json" }, body: JSON.stringify({ title }) }), [id, attack]);
  await page.reload();
  await answered();
  assert.equal(await text(".chat-item a"), attack);
});

await step("reading above is left in peace; a button leads back", async () => {
  await page.locator(".scroll").evaluate((el) => el.scrollTo(0, el.scrollHeight));
  await page.waitForTimeout(100);
  await page.mouse.move(700, 300);
  await page.mouse.wheel(0, -600);
  await page.getByRole("button", { name: "回到最新内容" }).click();
  await page.waitForFunction(() => {
    const el = document.querySelector(".scroll");
    return el.scrollTop + el.clientHeight >= el.scrollHeight - 60;
  });
});

await step("a conversation is renamed in place and deleted by name", async () => {
  const item = page.locator(".chat-item").first();
  await item.hover();
  await item.getByRole("button", { name: /重命名/ }).click();
  await page.getByLabel("对话的新名称").fill("第一段对话");
  await page.keyboard.press("Enter");
  await page.getByRole("link", { name: "第一段对话" }).waitFor();
  await page.reload();
  await page.getByRole("link", { name: "第一段对话" }).hover();
  await page.getByRole("button", { name: "删除“第一段对话”" }).click();
  await page.getByText("“第一段对话”和其中的所有问答都会被删除").waitFor();
  await browser.shot(page, "delete");
  await browser.audit(page, "delete");
  await page.keyboard.press("Escape");
  assert.equal(await page.locator("dialog").count(), 0);
  await page.getByRole("link", { name: "第一段对话" }).hover();
  await page.getByRole("button", { name: "删除“第一段对话”" }).click();
  await page.locator("dialog").getByRole("button", { name: "删除", exact: true }).click();
  await page.waitForURL(`${url}/`);
  assert.equal(await page.locator(".chat-item").count(), 0);
});

let key = "";
await step("a key is made, shown once, and works", async () => {
  await page.goto(`${url}/keys`);
  await page.getByText("还没有密钥").waitFor();
  await browser.shot(page, "keys-empty");
  await browser.audit(page, "keys-empty");
  await press("button", "新建密钥");
  await browser.shot(page, "key-new");
  await browser.audit(page, "key-new");
  await fill("名称", "公司网站");
  await fill("最多可花费", "5");
  await press("button", "创建");
  await page.locator(".once code").waitFor();
  key = await text(".once code");
  assert.match(key, /^jm_\w{30,}$/);
  assert.ok((await text(".snippet pre")).includes(`${url}/v1/chat/completions`));
  await browser.shot(page, "key-made");
  await browser.audit(page, "key-made");
  await press("button", "我已保存好");
  await page.getByText(`jm_…${key.slice(-4)}`).waitFor();
  assert.ok(!(await page.content()).includes(key), "the key is gone from the page");
  await browser.shot(page, "keys");
  await browser.audit(page, "keys");
  if (!real) return;
  const answer = await fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/json" },
    body: JSON.stringify({ model: "jimu-demo", messages: [{ role: "user", content: "hello" }] }),
  });
  assert.equal(answer.status, 200, await answer.clone().text());
});

await step("usage and statement show what was used", async () => {
  await page.goto(`${url}/usage`);
  await page.getByText("网页对话").first().waitFor();
  if (real) await page.getByText("公司网站").first().waitFor();
  await browser.shot(page, "usage");
  await browser.audit(page, "usage");
  await page.getByRole("link", { name: "账单" }).click();
  await page.getByRole("button", { name: "明细" }).first().click();
  await page.getByText(/^−¥\d+\.\d{9}$/).waitFor();
  await browser.shot(page, "statement");
  await browser.audit(page, "statement");
});

await step("a key is revoked by name", async () => {
  await page.goto(`${url}/keys`);
  await press("button", "吊销“公司网站”");
  await page.getByText(`“公司网站”（尾号 ${key.slice(-4)}）`, { exact: false }).waitFor();
  await page.locator("dialog").getByRole("button", { name: "吊销" }).click();
  await page.locator("dialog").waitFor({ state: "detached" });
  await page.waitForFunction(() => !document.querySelector("td .danger"));
  if (!real) return;
  await page.waitForTimeout(1100);
  const answer = await fetch(`${url}/v1/models`, { headers: { Authorization: `Bearer ${key}` } });
  assert.equal(answer.status, 401);
});

await step("the account page changes the password, the theme and the language", async () => {
  await page.goto(`${url}/account`);
  await page.getByText("所有者").waitFor();
  await browser.shot(page, "account");
  await browser.audit(page, "account");
  browser.allow(/status of 403.*\/api\/me\/password/);
  await fill("当前密码", "not the password");
  await fill("新密码", `${password} 2`);
  await press("button", "修改");
  await page.getByText("当前密码不对。").waitFor();
  await fill("当前密码", password);
  await press("button", "修改");
  await page.getByText("密码已修改，其他设备已退出。").waitFor();
  await page.getByText("高对比").click();
  await browser.shot(page, "account-contrast");
  await browser.audit(page, "account-contrast");
  await page.getByText("深色").click();
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "dark");
  await page.getByText("English").click();
  await page.getByRole("heading", { name: "Account" }).waitFor();
  await page.reload();
  assert.equal(await page.evaluate(() => `${document.documentElement.dataset.theme} ${document.documentElement.lang}`), "dark en");
  await browser.shot(page, "account-dark-en");
});

await step("signing out and in again, in English", async () => {
  await press("button", "Sign out");
  await page.waitForURL(/\/login/);
  await page.getByLabel("User name").waitFor();
  await browser.shot(page, "login-dark-en");
  await browser.audit(page, "login dark");
  await looks("light");
  await browser.audit(page, "login light");
  await browser.shot(page, "login-en");
  browser.allow(/status of 401.*\/api\/session/);
  await fill("User name", name);
  await fill("Password", "wrong");
  await press("button", "Sign in");
  await page.getByText("The user name or the password is not right.").waitFor();
  await fill("Password", `${password} 2`);
  await press("button", "Sign in");
  await page.locator(".welcome").waitFor();
  await idle();
  await browser.shot(page, "welcome-en");
});

await step("each page in the dark and in high contrast", async () => {
  await looks("dark");
  await ask("Hello, who are you?");
  await answered();
  for (const theme of ["dark", "contrast"]) {
    await looks(theme);
    await browser.shot(page, `chat-${theme}-en`);
    await browser.audit(page, `chat ${theme}`);
  }
  const talk = new URL(page.url()).pathname;
  for (const path of ["/", "/keys", "/usage", "/usage?tab=statement", "/account", "/c/none"]) {
    if (path === "/c/none") browser.allow(/status of 404.*\/api\/conversations\/none/);
    await looks("dark");
    await page.goto(url + path);
    await idle();
    const file = path.replace(/\W+/g, "-").replace(/^-|-$/g, "") || "welcome";
    await browser.shot(page, `${file}-dark-en`);
    await browser.audit(page, `${path} dark`);
  }
  await page.goto(url + talk);
});

await step("keys: / writes, Ctrl+K begins anew, Tab is seen", async () => {
  await page.goto(`${url}/usage`);
  await idle();
  await page.keyboard.press("Control+k");
  await page.waitForURL(`${url}/`);
  await page.locator("textarea").waitFor();
  await page.locator("h1").click();
  await page.keyboard.press("/");
  assert.equal(await page.evaluate(() => document.activeElement?.tagName), "TEXTAREA");
  assert.equal(await page.locator("textarea").inputValue(), "");
  await page.goto(`${url}/keys`);
  await idle();
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement?.classList.contains("skip")), true);
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement?.id), "main");
});

await step("on a phone: drawer, composer in sight, no sideways scrolling", async () => {
  const state = await ctx.storageState();
  const phone = await browser.context({ viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, storageState: state });
  const desktop = page;
  page = await phone.newPage();
  await page.goto(url);
  await page.locator(".welcome").waitFor();
  await looks("light");
  await page.evaluate(() => localStorage.setItem("jimu.lang", "zh-CN"));
  await page.reload();
  await page.locator(".welcome").waitFor();
  await idle();
  await browser.shot(page, "phone-welcome");
  await browser.audit(page, "phone welcome");
  assert.equal(await page.locator(".side").isVisible(), false);
  await page.getByRole("button", { name: "打开侧栏" }).click();
  await page.locator(".side.open").waitFor();
  await page.waitForTimeout(250);
  await browser.shot(page, "phone-drawer");
  await browser.audit(page, "phone drawer");
  await page.keyboard.press("Escape");
  await page.locator(".side").waitFor({ state: "hidden" });
  await page.locator("textarea").fill("你好\n第二行");
  await page.getByRole("button", { name: "发送" }).tap();
  await answered();
  await browser.shot(page, "phone-chat");
  await browser.audit(page, "phone chat");
  // A keyboard takes half of the height: the composer stays in what is left.
  await page.setViewportSize({ width: 390, height: 420 });
  await page.locator("textarea").tap();
  await page.waitForTimeout(200);
  const box = await page.locator(".composer-box").boundingBox();
  assert.ok(box && box.y + box.height <= 420 && box.y > 0, `the composer is at ${JSON.stringify(box)}`);
  await browser.shot(page, "phone-keyboard");
  await page.setViewportSize({ width: 390, height: 844 });
  for (const path of ["/keys", "/usage", "/usage?tab=statement", "/account"]) {
    await page.goto(url + path);
    await idle();
    await browser.shot(page, `phone-${path.replace(/\W+/g, "-").slice(1)}`);
    await browser.audit(page, `phone ${path}`);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${path} scrolls sideways`);
  }
  await phone.close();
  page = desktop;
});

await step("the chat is drawn fast on a slow line", async () => {
  const state = await ctx.storageState();
  const slow = await browser.context({ storageState: state });
  const desktop = page;
  page = await slow.newPage();
  const cdp = await slow.newCDPSession(page);
  await cdp.send("Network.enable");
  await cdp.send("Network.emulateNetworkConditions", { offline: false, latency: 60, downloadThroughput: 375_000, uploadThroughput: 375_000 });
  await cdp.send("Emulation.setCPUThrottlingRate", { rate: 4 });
  let bytes = 0;
  cdp.on("Network.loadingFinished", (e) => (bytes += e.encodedDataLength));
  const times = [];
  for (let i = 0; i < 3; i++) {
    bytes = 0;
    await cdp.send("Network.clearBrowserCache");
    await page.goto(url);
    await page.locator(".welcome").waitFor();
    await idle();
    times.push(await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? Number.NaN));
  }
  const files = await page.evaluate(() => performance.getEntriesByType("resource").filter((r) => !r.name.includes("/api/")).length + 1);
  const best = Math.min(...times);
  console.log(`      first picture after ${Math.round(best)} ms, ${files} files, ${Math.round(bytes / 1024)} KB with the calls`);
  assert.ok(files <= 10, `${files} files`); // the eight of the budget, the icon and the manifest
  await slow.close();
  page = desktop;
});

await step("a session that ended elsewhere leads to the sign-in page and back", async () => {
  browser.allow(/status of 401/);
  await ctx.clearCookies();
  await page.goto(`${url}/keys`);
  await page.waitForURL(/\/login\?next=%2Fkeys/);
});

await browser.close();
await server.close();
console.log(failed === 0 ? `all passed; pictures in ${shots}` : `${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
