import { Store } from "../ui/store";

/** drawer says whether the side bar is open on a narrow screen. */
export const drawer = new Store(false);
