// Rooms of Socket.IO over its WebSocket transport alone; each call is acknowledged.
const http = require("http").createServer();
const { Server } = require("socket.io");

const server = new Server(http, { transports: ["websocket"], serveClient: false, perMessageDeflate: false });
server.on("connection", (socket) => {
  socket.on("hear", async (room, done) => {
    await socket.join(room);
    done();
  });
  socket.on("say", (room, body, done) => {
    server.to(room).emit("said", body);
    done();
  });
});
http.listen({ host: "127.0.0.1", port: Number(process.argv[2]), backlog: 4096 });
