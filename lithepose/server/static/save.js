// Results as files.

function cell(value) {
  const text = value === undefined || value === null ? "" : String(value);
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Rows of lithepose's CSV: one per joint that was found. */
export function asCsv(results) {
  const rows = [["source", "frame", "time", "person", "person_score", "joint", "x", "y", "score", "id"]];
  for (const { name, frame, time, people } of results) {
    people.forEach((person, index) => {
      for (const [joint, found] of Object.entries(person.joints)) {
        if (found) rows.push([name, frame, time, index, person.score, joint, ...found, person.id]);
      }
    });
  }
  return rows.map((row) => row.map(cell).join(",")).join("\n") + "\n";
}

/** Lets the browser save a file. */
export function save(content, name, type) {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
