import { render } from "@testing-library/preact";
import type { ReactElement } from "react";
import { Router } from "wouter";
import { memoryLocation } from "wouter/memory-location";

/** renderAt draws an element with an address of its own and returns the record of where it went. */
export function renderAt(path: string, element: ReactElement): string[] {
  const { hook, searchHook, history } = memoryLocation({ path, record: true });
  render(
    (
      <Router hook={hook} searchHook={searchHook}>
        {element}
      </Router>
    ) as never,
  );
  return history;
}
