# Everything here runs inside .venv, which the first target you ask for creates (a few minutes, once).
# Another environment: make book VENV=/path/to/it      Another Python: make book PYTHON=python3.12
# Without an NVIDIA GPU on Linux, torch comes without CUDA; to choose: make book TORCH=cpu, or TORCH=cuda
PYTHON ?= python3
VENV   ?= .venv
TORCH  ?= auto
BIN    := $(VENV)/bin
READY  := $(VENV)/.whatwhere
# glibc gives large blocks back after every use; keeping them makes a training step a quarter shorter (others ignore this)
FRUGAL := MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592

# our own JavaScript; what lies in tools/ is KaTeX's and reveal's
SCRIPTS := 'lib/**/*.js' 'book/**/*.js' 'tests/**/*.js'

# On a machine with other work to do, threads that wait by spinning cost far more than they save.
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.PHONY: help book test format test-site lab chapter serve student instructor slides quizzes nbgrader train fleet alignment shorter scaling bench steady draws replicate rehearse agreement colab gpu links \
        offline release sync clean

help:  ## show this list
	@echo "What and Where: make TARGET, where TARGET is one of"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The stamp is renewed when the declared or the pinned packages change; the environment itself is kept.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "This book needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	@test -x $(BIN)/python || { echo "Creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@$(BIN)/python tools/torch_build.py $(TORCH)
	@echo "Installing the book's packages into $(VENV), at the versions in constraints.txt"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[book,test]'
	@touch $@

book: $(READY)  ## execute every notebook and build the book into _build/html
	$(BIN)/python -m tools.site.build_book

test: $(READY)  ## check the code and run the tests, notebooks and exercises included
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/oxlint lib book tests
	$(BIN)/oxfmt --check $(SCRIPTS)
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

format: $(READY)  ## set the code as the tests want it: Python by ruff, JavaScript by oxlint and oxfmt
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/oxlint --fix lib book tests
	$(BIN)/oxfmt $(SCRIPTS)

$(READY)-site: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[site]'
	@touch $@

test-site: $(READY)-site  ## look at the built book in a real browser (needs Chromium, and make book before)
	$(BIN)/python -m pytest tests/site -n 2

serve: $(READY)  ## read the built book at http://127.0.0.1:8000
	$(BIN)/python -m http.server 8000 --bind 127.0.0.1 --directory _build/html

student: $(READY)  ## write the chapters without their solutions into student/
	$(BIN)/python -m tools.course.editions student

instructor: $(READY)  ## write the chapters with solutions, outputs and worked answers into instructor/
	$(BIN)/python -m tools.course.answers $(CHAPTERS)
	$(BIN)/python -m tools.course.editions instructor

slides: $(READY)  ## make slides of all chapters, or of CHAPTERS="1 2", to show without a network, into _build/slides
	$(BIN)/python -m tools.course.slides $(CHAPTERS)

quizzes: $(READY)  ## write the chapters' quizzes for Moodle and Canvas into _build/quizzes
	$(BIN)/python -m tools.course.quizzes

nbgrader: $(READY)  ## lay out a course for nbgrader, and its settings, in nbgrader/
	$(BIN)/python -m tools.course.nbgrader_course

lab: $(READY)  ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab --notebook-dir=. notebooks

chapter: $(READY)  ## begin a chapter from the template: NAME=which_lens, and AFTER=02 (the last one without)
	$(BIN)/python -m tools.course.new_chapter $(NAME) $(if $(AFTER),--after $(AFTER))

train: $(READY)  ## train both model organisms from scratch (resumes where it stopped)
	$(FRUGAL) $(BIN)/python -m whatwhere.book.training

fleet: $(READY)  ## raise eight more organisms from other seeds, and put chapters' claims to them (a night; resumes where it stopped)
	$(BIN)/python -m tools.trials.fleet $(FLEET)

alignment: $(READY)  ## fit a connector between language models and encoders of the fleet, to see what decides how it goes (half an hour; after make fleet)
	$(BIN)/python -m tools.trials.alignment $(ALIGNMENT)

shorter: $(READY)  ## train organisms with half and a quarter of the steps, to see which exam is lost (two hours; resumes where it stopped)
	$(BIN)/python -m tools.trials.shorter $(SHORTER)

scaling: $(READY)  ## repeat the long runs of chapters 15 and 16, a good hour on two cores (resumes where it stopped)
	TQDM_DISABLE=1 OMP_NUM_THREADS=1 $(FRUGAL) $(BIN)/python -m whatwhere.book.training.scaling_study

$(READY)-bench: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[alternatives]'
	@touch $@

bench: $(READY)-bench  ## time the lens beside its alternatives, compression, scaling and the book itself (an hour; 16 GB)
	env -u OMP_WAIT_POLICY $(BIN)/python -m tools.bench $(PARTS) $(if $(SAVE),--save)

steady: $(READY)  ## execute all chapters and the tests, each time something else changed that should not matter (some hours)
	$(BIN)/python -m tools.trials.steady

draws: $(READY)  ## measure every claim again on ten other draws of scenes (some hours; resumes where it stopped)
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.trials.draws $(DRAWS)

rehearse: $(READY)  ## build two real models at full size with random weights, and time them (16 GB of free memory)
	$(BIN)/python -m tools.trials.rehearse

agreement:  ## compare how we read answers and score with lmms-eval, in an environment of its own (two gigabytes)
	@test -x .venv-lmms/bin/python || $(PYTHON) -m venv .venv-lmms
	.venv-lmms/bin/python -m pip install --quiet --disable-pip-version-check -e '.[agreement]'
	.venv-lmms/bin/python -m pip install --quiet --disable-pip-version-check --no-deps 'lmms-eval>=0.7.3'
	.venv-lmms/bin/python -m tools.trials.lmms_strings
	OMP_NUM_THREADS=1 .venv-lmms/bin/python -m tools.trials.lmms_agreement

colab: $(READY)  ## try every notebook alone among the packages that Colab has, in an environment of its own (gigabytes)
	$(BIN)/python -m tools.trials.colab_trial $(COLAB)

replicate: $(READY)  ## put the paper's experiments to both organisms, by the command for real models (half an hour)
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.trials.replicate

gpu: $(READY)  ## try every notebook and command on a GPU that is not there, in two precisions (an hour)
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.trials.gpu_trial $(GPU)

links: $(READY)  ## ask for every address that the book links to (needs the network, and make book before)
	$(BIN)/jupyter-book build . --path-output _build/links --builder custom --custom-builder linkcheck

offline: $(READY)  ## pack the built book into one zip, to read without a network (make book before)
	$(BIN)/python -m tools.site.release offline

release: $(READY)  ## pack that, the editions for a course, metadata and checksums into _build/release
	$(BIN)/python -m tools.site.release release

sync: $(READY)  ## strip notebook outputs; write the setup cell and the repository's address where they belong
	$(BIN)/python -m tools.site.sync

clean:  ## delete what was built (not the environment, not the organisms, not the claim rows)
	rm -rf _build build .pytest_cache .ruff_cache lib/whatwhere.egg-info
	find lib tests tools notebooks book -name __pycache__ -type d -prune -exec rm -rf {} +
