import { type RefObject, useCallback, useEffect, useRef, useState } from "react";

const near = 48; // pixels from the end that still count as the end

/**
 * useStick keeps a scrolling box at its end while content grows, but only as
 * long as the reader is there: scrolling up lets go, coming back takes hold.
 */
export function useStick(box: RefObject<HTMLElement | null>, content: RefObject<HTMLElement | null>): { away: boolean; jump: () => void } {
  const stuck = useRef(true);
  const last = useRef(0);
  const [away, setAway] = useState(false);

  const toEnd = useCallback(() => {
    const el = box.current;
    if (!el) return;
    el.scrollTop = el.scrollHeight;
    last.current = el.scrollTop;
  }, [box]);

  useEffect(() => {
    const el = box.current;
    if (!el || !content.current) return;
    const onScroll = () => {
      const atEnd = el.scrollTop + el.clientHeight >= el.scrollHeight - near;
      if (atEnd) stuck.current = true;
      else if (el.scrollTop < last.current) stuck.current = false;
      last.current = el.scrollTop;
      setAway(!stuck.current);
    };
    const grown = new ResizeObserver(() => {
      if (stuck.current) toEnd();
    });
    el.addEventListener("scroll", onScroll, { passive: true });
    grown.observe(content.current);
    grown.observe(el);
    return () => {
      el.removeEventListener("scroll", onScroll);
      grown.disconnect();
    };
  }, [box, content, toEnd]);

  const jump = useCallback(() => {
    stuck.current = true;
    setAway(false);
    toEnd();
  }, [toEnd]);
  return { away, jump };
}
