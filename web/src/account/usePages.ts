import { useCallback, useEffect, useRef, useState } from "react";
import { api, asProblem, type Problem } from "../api/client";
import type { Page } from "../api/types";

export interface Pages<T> {
  rows: T[];
  loaded: boolean;
  busy: boolean;
  more: boolean;
  fault?: Problem;
  load: () => void; // the next page, or the first again after a fault
}

/** usePages reads a list that comes in pages, one page at a time. */
export function usePages<T>(path: string): Pages<T> {
  const [state, setState] = useState<{ rows: T[]; next: string; loaded: boolean; busy: boolean; fault?: Problem }>({ rows: [], next: "", loaded: false, busy: true });
  const current = useRef(path);
  const fetchPage = useCallback(
    async (cursor: string) => {
      try {
        const q = cursor ? `&cursor=${encodeURIComponent(cursor)}` : "";
        const page = await api.get<Page<T>>(`${path}?limit=50${q}`);
        if (current.current !== path) return;
        setState((s) => ({ rows: cursor ? [...s.rows, ...page.data] : page.data, next: page.next, loaded: true, busy: false }));
      } catch (err) {
        if (current.current === path) setState((s) => ({ ...s, busy: false, fault: asProblem(err) }));
      }
    },
    [path],
  );
  useEffect(() => {
    current.current = path;
    void fetchPage("");
    return () => {
      current.current = "";
    };
  }, [path, fetchPage]);
  const load = useCallback(() => {
    setState((s) => ({ ...s, busy: true, fault: undefined }));
    void fetchPage(state.next);
  }, [fetchPage, state.next]);
  return { ...state, more: state.next !== "", load };
}
