/** Mark is the product's mark: three blocks joined so that each holds the others. */
export function Mark({ size = 24 }: { size?: number }) {
  return (
    <svg className="mark" width={size} height={size} viewBox="0 0 32 32" aria-hidden="true">
      <path className="mark-seal" d="M9 4h14a2 2 0 0 1 2 2v7a2 2 0 0 1-2 2h-3v4a1 1 0 0 1-1 1h-6a1 1 0 0 1-1-1v-4H9a2 2 0 0 1-2-2V6a2 2 0 0 1 2-2Z" />
      <path d="M5 17h5v4a1 1 0 0 0 1 1h4v5a1 1 0 0 1-1 1H5a2 2 0 0 1-2-2v-7a2 2 0 0 1 2-2Z" />
      <path d="M27 17h-5v4a1 1 0 0 1-1 1h-4v5a1 1 0 0 0 1 1h9a2 2 0 0 0 2-2v-7a2 2 0 0 0-2-2Z" />
    </svg>
  );
}
