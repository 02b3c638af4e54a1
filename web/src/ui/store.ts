import { useSyncExternalStore } from "react";

/** Store is a value that components can watch. */
export class Store<T> {
  private readonly watchers = new Set<() => void>();
  private value: T;

  constructor(value: T) {
    this.value = value;
  }

  readonly get = (): T => this.value;

  readonly set = (value: T): void => {
    if (Object.is(value, this.value)) return;
    this.value = value;
    for (const w of this.watchers) w();
  };

  readonly watch = (f: () => void): (() => void) => {
    this.watchers.add(f);
    return () => this.watchers.delete(f);
  };

  /** use subscribes a component. */
  use(): T {
    // eslint-disable-next-line react/rules-of-hooks
    return useSyncExternalStore(this.watch, this.get, this.get);
  }
}
