// The page of a comparison: {plots: {element id: plot}, csv: text of comparison.csv}.
"use strict";

const data = pageData();
for (const [id, plot] of Object.entries(data.plots)) {
  if (plot.series.length) drawPlot(document.getElementById(id), plot);
}
document.getElementById("get-csv").addEventListener("click", () => download("comparison.csv", "text/csv", data.csv));
finishPage();
