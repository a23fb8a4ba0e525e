// Plots of a predictor's evaluation, drawn from the page's data: {element id: plot or rows}.
"use strict";

drawAll(pageData());
finishPage();
