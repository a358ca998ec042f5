// SPDX-License-Identifier: MIT
// Arrays, maps, strings and JSON in node. Its own heap holds the objects; malloc serves parsers,
// code and buffers.
"use strict";

let state = 12345;
function random(below) {
  state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
  return state % below;
}

const rounds = Number(process.argv[2] || 1);
let sum = 0;
for (let round = 0; round < rounds; ++round) {
  const table = new Map();
  for (let i = 0; i < 20000; ++i) {
    const key = `key-${random(5000)}`;
    const row = table.get(key) || { hits: 0, tags: [] };
    row.hits += 1;
    row.tags.push(`tag-${random(50)}`);
    table.set(key, row);
  }
  const text = JSON.stringify([...table.entries()]);
  const back = new Map(JSON.parse(text));
  const buffers = [];
  for (let i = 0; i < 2000; ++i)
    buffers.push(Buffer.alloc(100 + random(20000), round & 0xff));
  sum += back.size + text.length + buffers.reduce((all, buffer) => all + buffer.length, 0);
  sum += text.split(",").filter((part) => /tag-[0-9]*7/.test(part)).length;
}
console.log(sum);
