// Skeletons on a canvas.

const SIDES = { left: "#ff8a3d", right: "#3da5ff", middle: "#f4f4f4" };
const PEOPLE = ["#ff5d5d", "#3da5ff", "#4fd06f", "#ffc93d", "#c57dff", "#3de0d0", "#ff7dc0", "#b5e04f"];

/** Colour of a limb or joint. */
function colourOf(scheme, person, names) {
  if (scheme === "white") return "#ffffff";
  if (scheme === "person") return PEOPLE[(person.id ?? person.index) % PEOPLE.length];
  const sides = new Set(names.map((name) => name.split("_")[0]));
  if (sides.size === 1 && sides.has("left")) return SIDES.left;
  if (sides.size === 1 && sides.has("right")) return SIDES.right;
  return SIDES.middle;
}

/**
 * Draws the people of one image over it.
 *
 * @param {CanvasRenderingContext2D} context of a canvas that contains the image in full size
 * @param {object} result a response of /v1/poses: width, height, people
 * @param {object} skeleton joints and edges, as returned by /v1/models
 * @param {object} style colour, boxes, scores
 */
export function drawPeople(context, result, skeleton, style) {
  const scale = Math.max(context.canvas.width, context.canvas.height) / 640;
  context.lineCap = "round";
  result.people.forEach((found, index) => {
    const person = { ...found, index };
    for (const [a, b] of skeleton.edges) {
      const names = [skeleton.joints[a], skeleton.joints[b]];
      const [from, to] = names.map((name) => person.joints[name]);
      if (!from || !to) continue;
      for (const [width, colour] of [[5, "#00000099"], [3, colourOf(style.colour, person, names)]]) {
        context.lineWidth = width * scale;
        context.strokeStyle = colour;
        context.beginPath();
        context.moveTo(from[0], from[1]);
        context.lineTo(to[0], to[1]);
        context.stroke();
      }
    }
    for (const [name, joint] of Object.entries(person.joints)) {
      if (!joint) continue;
      context.beginPath();
      context.arc(joint[0], joint[1], 3.2 * scale, 0, 2 * Math.PI);
      context.fillStyle = colourOf(style.colour, person, [name]);
      context.fill();
      context.lineWidth = scale;
      context.strokeStyle = "#00000099";
      context.stroke();
    }
    if (style.boxes && person.box) {
      context.lineWidth = 1.5 * scale;
      context.strokeStyle = "#ffffffcc";
      context.strokeRect(...person.box);
    }
    drawLabel(context, person, style, scale);
  });
}

/** The id and score above the highest joint. */
function drawLabel(context, person, style, scale) {
  const joints = Object.values(person.joints).filter(Boolean);
  const parts = [];
  if (person.id !== undefined && person.id >= 0) parts.push(`#${person.id}`);
  if (style.scores) parts.push(person.score.toFixed(2));
  if (!parts.length || !joints.length) return;
  const top = joints.reduce((best, joint) => (joint[1] < best[1] ? joint : best));
  const text = parts.join(" ");
  context.font = `600 ${13 * scale}px system-ui, sans-serif`;
  const width = context.measureText(text).width;
  const x = Math.min(Math.max(0, top[0] - width / 2), context.canvas.width - width);
  const y = Math.max(16 * scale, top[1] - 12 * scale);
  context.fillStyle = "#000000a6";
  context.fillRect(x - 4 * scale, y - 13 * scale, width + 8 * scale, 18 * scale);
  context.fillStyle = "#ffffff";
  context.fillText(text, x, y);
}
