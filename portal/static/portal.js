// Follow the output while its end is in view; a reader who scrolled up is left in peace.
const output = document.getElementById("output");
if (output) {
  let follows = true;
  output.scrollTop = output.scrollHeight;
  output.addEventListener("scroll", () => {
    follows = output.scrollHeight - output.scrollTop - output.clientHeight < 40;
  });
  document.body.addEventListener("htmx:afterSettle", () => {
    if (follows) output.scrollTop = output.scrollHeight;
  });
}
