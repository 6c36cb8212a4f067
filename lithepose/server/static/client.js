// Requests to the server that this page comes from.

/** An error with a message for the user. */
export class ServerError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }

  /** Whether the same request may succeed later. */
  get passes() {
    return this.status === 429 || this.status === 503;
  }
}

function headers(token, more = {}) {
  return token ? { ...more, Authorization: `Bearer ${token}` } : more;
}

async function checked(response) {
  if (response.ok) return response;
  let message = `the server returned status ${response.status}`;
  try {
    message = (await response.json()).error.message;
  } catch { /* not json: use the status */ }
  throw new ServerError(message, response.status);
}

/** The model that runs on the server: name, joints, edges. */
export async function loadedModel(token) {
  const response = await checked(await fetch("/v1/models", { headers: headers(token) }));
  return (await response.json()).loaded;
}

/** People of one encoded image; tries again if the server is busy. */
export async function findPeople(blob, { threshold, token }) {
  for (let attempt = 0; ; attempt += 1) {
    const response = await fetch(`/v1/poses?threshold=${threshold}`, {
      method: "POST",
      headers: headers(token, { "Content-Type": blob.type || "application/octet-stream" }),
      body: blob,
    });
    if (response.status === 429 && attempt < 10) {
      const seconds = Number(response.headers.get("Retry-After")) || 1;
      await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
    } else {
      return (await checked(response)).json();
    }
  }
}

/** A stream of frames: send a frame, receive its people; a person keeps the same id in all frames. */
export class FrameStream {
  constructor({ threshold, smooth, token }) {
    const address = new URL("/v1/stream", location.href);
    address.protocol = address.protocol.replace("http", "ws");
    address.searchParams.set("threshold", threshold);
    address.searchParams.set("smooth", smooth ? "1" : "0");
    this.socket = new WebSocket(address, token ? [`bearer.${token}`] : []);
    this.socket.binaryType = "arraybuffer";
    this.waiting = [];
    this.socket.onmessage = (event) => this.waiting.shift()?.resolve(JSON.parse(event.data));
    this.socket.onclose = (event) => {
      const why = event.code === 1006 ? "the stream could not be opened; check whether a token is required" : event.reason;
      this.waiting.splice(0).forEach(({ reject }) => reject(new ServerError(why || "the stream was closed")));
    };
    this.opened = new Promise((resolve, reject) => {
      this.socket.addEventListener("open", resolve);
      this.socket.addEventListener("error", () => reject(new ServerError("the stream cannot be opened")));
    });
  }

  /** @param {Blob} frame an encoded image */
  async people(frame) {
    await this.opened;
    if (this.socket.readyState !== WebSocket.OPEN) throw new ServerError("the stream was closed");
    const answer = new Promise((resolve, reject) => this.waiting.push({ resolve, reject }));
    this.socket.send(await frame.arrayBuffer());
    const result = await answer;
    if (result.error) throw new ServerError(result.error.message, result.error.status);
    return result;
  }

  close() {
    this.socket.close();
  }
}
