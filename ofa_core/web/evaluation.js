// Plots of a predictor's evaluation, drawn from the page's data: {element id: plot or rows}.
"use strict";

for (const [id, plot] of Object.entries(pageData())) {
  const element = document.getElementById(id);
  if (plot.rows) drawRows(element, plot);
  else drawPlot(element, plot);
}
addThemeButton(document.getElementById("theme"));
document.documentElement.dataset.ready = "true";
