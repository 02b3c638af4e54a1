// The lazy part of the chat: everything that turns Markdown into a page.
export { View } from "./view";
