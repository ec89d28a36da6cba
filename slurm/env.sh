# All that differs from site to site. Read twice: by your shell (`source slurm/env.sh`), which then knows TRAIN_JOB and
# CPU_JOB, and by every job on the node where it begins. The current folder is the repository's in both cases.

# --- what to ask Slurm for: options of sbatch, which win over the #SBATCH lines of the job files ---

# Training and prediction. Add --partition, --account, --qos, --time as your site wants them; several nodes: --nodes=2.
# On a CPU partition leave out --gpus-per-node, and set PROCESSES_PER_NODE below.
TRAIN_JOB="--nodes=1 --gpus-per-node=1 --cpus-per-task=8"

# Tokenizing: one node, no GPU.
CPU_JOB="--cpus-per-task=8"

# --- where the programs are ---

# `python` and `accelerate` on every node; this is what `make install` makes. Modules, if any, belong above this line.
export PATH="$PWD/.venv/bin:$PATH"

# --- how a node is used ---

# Training processes on each node. Empty: one per GPU, or a single one where there is none.
PROCESSES_PER_NODE=

# Strategy and precision; a file of accelerate_configs/ that leaves the number of machines to the launch line.
ACCELERATE_CONFIG=accelerate_configs/multi_node.yaml

# Further options of `accelerate launch`, e.g. "--mixed_precision no" on CPUs that have no fast bfloat16.
LAUNCH_OPTIONS=

# --- the network between the nodes ---

# The interface by which nodes reach each other (`ip -br addr` on a node). Needed where a node's own name leads to 127.0.1.1
# on itself, as Debian's /etc/hosts has it, or where there are several networks.
# export GLOO_SOCKET_IFNAME=eth0  # CPU processes, and the agreement on stops in any case
# export NCCL_SOCKET_IFNAME=eth0  # GPU processes

# --- models and data ---

# The cache of the model hub, and in it the windows that prepare.sbatch makes: a folder that every node sees.
# export HF_HOME=/shared/hf
# Compute nodes without internet would wait for it until a timeout; fetch models and data sets on the login node beforehand.
# export HF_HUB_OFFLINE=1

# --- how long to go on ---

# Look over nodes, code, folders and network at each start, before training: "yes", or "no" to save that half minute.
PREFLIGHT=yes
# A run is requeued at most so many times in its life, whatever the reason.
MAX_REQUEUES=50
# So many crashes in a row without a new checkpoint end it; a crash that comes again at the same place is a bug, not bad luck.
MAX_CRASHES=2
