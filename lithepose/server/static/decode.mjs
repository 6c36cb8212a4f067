// Outputs of person_detector and lithe -> people, as lithepose does by default. See docs/deployment.md for the contract.
export const limits = { box: 0.35, overlap: 0.6, joint: 0.35, person: 0.34, alike: 0.75, margin: 1.25 };
const SIGMAS = [26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89].map((s) => s / 1000);

// boxes (512 x 4), scores (512), back { width, height, scaleX, scaleY } of the letterbox -> [{ box: [x, y, w, h], score }]
export function decodeBoxes(boxes, scores, back) {
  const kept = [];
  boxes.forEach(([x0, y0, x1, y1], i) => { // descending by score
    if (scores[i] < limits.box || x1 <= x0 || y1 <= y0) return;
    if (kept.some(({ raw }) => iou(raw, [x0, y0, x1, y1]) > limits.overlap)) return;
    kept.push({ raw: [x0, y0, x1, y1], score: scores[i] });
  });
  const cut = (value, limit) => Math.min(Math.max(value, 0), limit);
  return kept.map(({ raw: [x0, y0, x1, y1], score }) => {
    const [a, b] = [cut(x0 / back.scaleX, back.width), cut(y0 / back.scaleY, back.height)];
    const [c, d] = [cut(x1 / back.scaleX, back.width), cut(y1 / back.scaleY, back.height)];
    return { box: [a, b, c - a, d - b], score };
  }).filter(({ box }) => box[2] >= 1 && box[3] >= 1);
}

function iou(a, b) {
  const side = (k) => Math.max(Math.min(a[k + 2], b[k + 2]) - Math.max(a[k], b[k]), 0);
  const area = (r) => (r[2] - r[0]) * (r[3] - r[1]), both = side(0) * side(1);
  return both / (area(a) + area(b) - both);
}

// The crop around a box: crop pixel = zoom * image pixel + [dx, dy]; cut it bilinearly, grey (127) beyond the image.
export function cropOf([x, y, w, h], height = 256, width = 192) {
  const zoom = Math.min(width / Math.max(w, 1e-3), height / Math.max(h, 1e-3)) / limits.margin;
  return { zoom, dx: (width - 1) / 2 - zoom * (x + w / 2), dy: (height - 1) / 2 - zoom * (y + h / 2) };
}

// Found boxes, and xy (17 x 2), score (17) and personScore of each crop -> people, best first.
export function decodePeople(found, xy, score, personScore, { width, height }, lowest = limits.joint) {
  const people = found.map(({ box, score: boxScore }, i) => {
    const { zoom, dx, dy } = cropOf(box), inside = (value, limit) => Math.min(Math.max(value, 0), limit);
    const joints = xy[i].map(([x, y], k) => score[i][k] >= lowest
      ? { x: inside((x - dx) / zoom, width - 1), y: inside((y - dy) / zoom, height - 1), score: score[i][k] } : null);
    return { joints, score: personScore[i] * Math.sqrt(boxScore), box };
  }).filter(({ joints }) => joints.some(Boolean)).sort((a, b) => b.score - a.score);
  const kept = [];
  for (const person of people) if (kept.every((other) => alike(person, other) <= limits.alike)) kept.push(person);
  return kept.filter((person) => person.score >= limits.person);
}

function alike(a, b) { // object keypoint similarity; a joint is weighted by the smaller of the two scores
  const size = 0.53 * (a.box[2] * a.box[3] + b.box[2] * b.box[3]) / 2;
  let sum = 0, all = 0;
  a.joints.forEach((p, k) => {
    const q = b.joints[k];
    if (!p || !q) return;
    const weight = Math.min(p.score, q.score), squared = (p.x - q.x) ** 2 + (p.y - q.y) ** 2;
    sum += weight * Math.exp(-squared / (2 * (2 * SIGMAS[k]) ** 2 * Math.max(size, 1)));
    all += weight;
  });
  return sum / Math.max(all, 1e-6);
}
