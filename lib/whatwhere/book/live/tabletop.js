/* The live tabletop: a reader moves the mug, and the model reads the scene again, inside the page.

   A page holds <div class="ww-live" data-live="{…}" data-base="folder of the scripts"> around a still
   figure, as tabletop.py writes it. This script adds a button that wakes the model. Nothing else is
   loaded before a reader asks for it: by the button, by a link that holds a scene for the figure, or
   by scrolling to it and staying there. What comes then, figure.js first of all, are <script>
   elements, since a page that is read from a disk can fetch nothing.

   By scrolling alone a figure wakes only where that costs its reader nothing. A model is three to
   four megabytes, as much as a chapter, and on a narrow screen the live figure is twice as tall as
   the still one. So it waits to be asked for on a phone, on a slow or a metered network, and where
   data are to be saved; and where someone is using the still figure, which would be taken away. */
(function () {
  'use strict';
  // a page may hold several figures, and this script once for each
  if (globalThis.whatwhereLiveFigures) return globalThis.whatwhereLiveFigures();

  const FILES = ['world_data.js', 'world.js', 'panels.js', 'figure.js'];
  const STAY = 500; // milliseconds for which a figure is looked at before it wakes by itself
  const MIDDLE = '-25% 0px'; // of the window, where a figure is looked at: its middle half
  const WAKE = 'Wake the model';

  const loads = new Map();

  function load(base, file) {
    const address = base + '/' + file;
    if (!loads.has(address)) {
      loads.set(
        address,
        new Promise((resolve, reject) => {
          const script = document.createElement('script');
          script.src = address;
          script.onload = resolve;
          script.onerror = () => {
            loads.delete(address); // so that it can be tried again
            reject(
              new Error(`${file} could not be loaded, which lies beside this page in ${base}.`),
            );
          };
          document.head.append(script);
        }),
      );
    }
    return loads.get(address);
  }

  // Whether a model may come without having been asked for.
  function costsNothing() {
    if (!globalThis.IntersectionObserver || !matchMedia('(pointer: fine)').matches) return false;
    if (location.protocol === 'file:') return true;
    // Chromium alone says what the network is like
    const { saveData = false, type = '', effectiveType = '4g' } = navigator.connection ?? {};
    return !saveData && type !== 'cellular' && effectiveType === '4g';
  }

  // A figure that sleeps, and then the live one in its place.
  class Sleeper {
    constructor(root) {
      this.root = root;
      this.given = JSON.parse(root.dataset.live);
      const { model, megabytes } = this.given;
      this.button = document.createElement('button');
      Object.assign(this.button, { type: 'button', className: 'ww-wake', textContent: WAKE });
      this.button.addEventListener('click', () => this.wake());
      this.text = document.createElement('span');
      this.text.textContent = `Move things, change them, and ask: ${model} runs in this page (${megabytes} MB, no network).`;
      this.bar = document.createElement('div');
      this.bar.className = 'ww-paper ww-asleep';
      this.bar.append(this.button, ' ', this.text);
      root.prepend(this.bar); // above the still figure, so that it is seen first
      // the event's own address: the figure may have written into the bar since
      addEventListener('hashchange', ({ newURL }) => this.openLink(new URL(newURL).hash));
      if (costsNothing()) this.watch();
      this.openLink();
    }

    // What an address says of this figure, null where it says nothing.
    link(hash = location.hash) {
      const start = `#${this.root.id}?`;
      return hash.startsWith(start) ? hash.slice(start.length) : null;
    }

    openLink(hash) {
      const { figure } = this;
      const link = this.link(hash);
      if (link === null || link === figure?.written) return;
      if (figure) figure.follow(link);
      else this.wake();
      this.root.scrollIntoView();
    }

    // Wake when the reader has scrolled, and stays with the figure. One that is in view when its page
    // opens sleeps on until then.
    watch() {
      let staying;
      const observer = new IntersectionObserver(
        seen => {
          clearTimeout(staying);
          if (seen.at(-1).isIntersecting) staying = setTimeout(() => this.wake(true), STAY);
        },
        { rootMargin: MIDDLE },
      );
      const options = { capture: true, passive: true };
      const begin = ({ target }) => {
        // a theme may scroll its own sidebar; in JupyterLab what scrolls is not the page
        if (target.contains(this.root)) observer.observe(this.root);
      };
      this.unwatch = () => {
        clearTimeout(staying);
        observer.disconnect();
        document.removeEventListener('scroll', begin, options);
      };
      document.addEventListener('scroll', begin, options);
      for (const use of ['pointerdown', 'keydown'])
        this.root.addEventListener(use, () => this.unwatch(), options);
    }

    async wake(unasked = false) {
      this.unwatch?.();
      this.button.disabled = true;
      this.button.textContent = 'Waking …';
      const { root, bar, given } = this;
      const { base } = root.dataset;
      try {
        await Promise.all(FILES.map(file => load(base, file)));
        this.figure = new globalThis.whatwhereFigure({
          root,
          bar,
          given,
          load: file => load(base, file),
        });
        this.figure.begin(this.link());
      } catch (error) {
        if (this.figure) return this.figure.problem(error.message);
        this.button.disabled = false;
        this.button.textContent = WAKE;
        if (!unasked) this.text.textContent = error.message;
      }
    }
  }

  globalThis.whatwhereLiveFigures = () => {
    for (const root of document.querySelectorAll('.ww-live:not(.ww-ready)')) {
      root.classList.add('ww-ready');
      root.sleeper = new Sleeper(root);
    }
  };
  globalThis.whatwhereLiveFigures();
})();
