// A quiz is plain HTML that works without this script: an option opens and says Yes or No. The
// script lets one option of a question be open at a time, colours it, and counts first choices.
document.addEventListener('DOMContentLoaded', () => {
  const quiz = document.querySelector('section#quiz');
  if (!quiz) return;
  const questions = [];
  for (const child of quiz.children) {
    if (child.matches('p') && child.querySelector(':scope > strong'))
      questions.push({ options: [], first: null });
    if (child.matches('details')) questions.at(-1)?.options.push(child);
  }
  const score = document.createElement('p');
  score.className = 'ww-score';
  score.setAttribute('aria-live', 'polite');
  quiz.append(score);
  questions.forEach((question, number) => {
    for (const option of question.options) {
      const right = /^\s*Yes\b/.test(
        option.querySelector(':scope > :not(summary)')?.textContent ?? '',
      );
      option.name = `quiz-${number + 1}`; // one at a time, in browsers that know it
      option.addEventListener('toggle', () => {
        if (!option.open) return;
        option.classList.add(right ? 'ww-right' : 'ww-wrong');
        question.first ??= right;
        const answered = questions.filter(each => each.first !== null);
        const hits = answered.filter(each => each.first).length;
        score.textContent = `Right at the first choice: ${hits} of ${answered.length} answered, ${questions.length} in all.`;
      });
    }
  });
});
