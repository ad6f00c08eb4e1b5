// A hub on the package `ws`: `S3` subscribes to channel 3 and is answered `ready`; `P3 body` publishes and is answered `ack`.
const { WebSocketServer } = require("ws");

const channels = new Map();
const members = (name) => channels.get(name) ?? channels.set(name, new Set()).get(name);
const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]), backlog: 4096, perMessageDeflate: false });

server.on("connection", (socket) => {
  socket.on("message", (bytes) => {
    const text = bytes.toString();
    if (text[0] === "S") {
      const channel = members(text.slice(1));
      channel.add(socket);
      socket.on("close", () => channel.delete(socket));
      socket.send("ready");
      return;
    }
    const space = text.indexOf(" ");
    const body = bytes.subarray(space + 1);
    for (const member of members(text.slice(1, space))) member.send(body, { binary: false });
    socket.send("ack");
  });
});
