// The page of a latency table: plots, and the blocks of one place in the network at a time.
"use strict";

const data = pageData();
drawAll(data.plots);

const place = document.getElementById("place");
data.groups.forEach((group, i) => place.append(new Option(`${group.name} (${group.rows.length})`, i)));
const title = "Latency (ms per batch)";
const blocks = drawRows(document.getElementById("blocks"), { label: "Blocks of the chosen place", x: title, rows: data.groups[0].rows });
place.addEventListener("change", () => blocks.update(data.groups[place.value].rows, title));
finishPage();
