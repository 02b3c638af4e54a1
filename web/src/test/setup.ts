import { cleanup } from "@testing-library/preact";
import { afterEach, beforeAll } from "vitest";
import { loadLanguage } from "../i18n";

beforeAll(async () => {
  await loadLanguage("en");
});
afterEach(() => {
  cleanup();
  localStorage.clear();
  sessionStorage.clear();
});
