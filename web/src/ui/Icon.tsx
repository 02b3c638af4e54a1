// Line icons on a 20-unit grid, drawn for this page.
const paths = {
  plus: "M10 4v12M4 10h12",
  menu: "M3 6h14M3 10h14M3 14h9",
  close: "M5 5l10 10M15 5L5 15",
  pencil: "M4 16l1-4 8-8 3 3-8 8-4 1ZM11.5 5.5l3 3",
  trash: "M4 6h12M8 6V4h4v2M6 6l.7 10h6.6L14 6M8.7 9v4M11.3 9v4",
  send: "M10 16V4M5 9l5-5 5 5",
  stop: "M6 6h8v8H6z",
  copy: "M7 7h9v9H7zM13 7V4H4v9h3",
  check: "M4 10.5l4 4 8-9",
  again: "M16 10a6 6 0 1 1-1.8-4.3M16 3v4h-4",
  down: "M10 4v12M5 11l5 5 5-5",
  chevron: "M6 8l4 4 4-4",
  key: "M13 11a4 4 0 1 0-4-4 4 4 0 0 0 4 4ZM10.2 9.8 3.5 16.500M5.5 14.500l2 2M8 12l1.5 1.5",
  chart: "M4 16V9M8 16V4M12 16v-5M16 16V7",
  person: "M10 10a3 3 0 1 0 0-6 3 3 0 0 0 0 6ZM4 17c.6-3.2 3-5 6-5s5.4 1.8 6 5",
  alert: "M10 6v5M10 14v.01M10 2.5 18 17H2L10 2.500Z",
} as const;

export type IconName = keyof typeof paths;

/** Icon is a decoration; what it stands for is said in words beside it. */
export function Icon({ name, size = 18 }: { name: IconName; size?: number }) {
  return (
    <svg className="icon" width={size} height={size} viewBox="0 0 20 20" aria-hidden="true">
      <path d={paths[name]} />
    </svg>
  );
}
