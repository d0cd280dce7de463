"use strict";

// Puts the chosen volumes at the chosen slice on the two sides of each figure's line, which follows its slider.
function arrange(viewer) {
  const axial = viewer.querySelector('figure[data-plane="axial"]');
  for (const figure of viewer.querySelectorAll("figure.cut")) {
    const { position } = figure.dataset;
    for (const shown of figure.querySelectorAll("[data-position]")) {
      shown.classList.toggle("on", shown.dataset.position === position);
    }
    for (const radio of viewer.querySelectorAll("input[data-side]:checked")) {
      for (const layer of figure.querySelectorAll(".layer")) {
        layer.classList.toggle(radio.dataset.side, layer.dataset.layer === radio.value);
      }
      figure.querySelector(`.tag.${radio.dataset.side}`).textContent = radio.nextElementSibling.textContent;
    }
    const level = figure.querySelector(".level");
    level?.setAttribute("transform", `translate(0 ${level.dataset.rows.split(" ")[axial.dataset.position]})`);
    const line = figure.querySelector(".split");
    figure.querySelector(".stage").style.setProperty("--split", `${line.value}%`);
    line.setAttribute("aria-valuetext", `${line.value}% ${figure.querySelector(".tag.left").textContent}`);
  }
}

// A finger or a mouse on the picture moves the line as well; a finger that moves up or down scrolls.
function draggable(figure) {
  const stage = figure.querySelector(".stage");
  function follow(event) {
    const box = stage.getBoundingClientRect();
    const line = figure.querySelector(".split");
    line.value = Math.round((100 * (event.clientX - box.left)) / box.width);
    line.dispatchEvent(new Event("input", { bubbles: true }));
  }
  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    stage.setPointerCapture(event.pointerId);
    follow(event);
  });
  stage.addEventListener("pointermove", (event) => {
    if (stage.hasPointerCapture(event.pointerId)) follow(event);
  });
}

// The slider of a figure's slices, and its buttons.
function browsable(figure) {
  const slider = figure.querySelector(".slice");
  slider?.addEventListener("input", () => {
    figure.dataset.position = slider.value;
    const label = figure.querySelectorAll(".labels li")[Number(slider.value)].textContent;
    figure.querySelector(".where").textContent = label;
    slider.setAttribute("aria-valuetext", label);
  });
  for (const button of figure.querySelectorAll("button[data-step]")) {
    button.addEventListener("click", () => {
      slider.value = Number(slider.value) + Number(button.dataset.step); // kept within its limits
      slider.dispatchEvent(new Event("input", { bubbles: true }));
    });
  }
}

for (const viewer of document.querySelectorAll(".viewer")) {
  for (const figure of viewer.querySelectorAll("figure.cut")) {
    draggable(figure);
    browsable(figure);
  }
  viewer.addEventListener("input", () => arrange(viewer));
  arrange(viewer);
}
