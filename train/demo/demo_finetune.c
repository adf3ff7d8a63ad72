/* The demo's fine-tuning of CLIP on captions, and retrieval before and after it. */
#include "data/io/file.h"
#include "engine/base/path.h"
#include "train/clip/finetune.h"
#include "train/demo/demo_run.h"
#include "train/run/process_group.h"

static enum mcs_status read_pairs(const struct demo_run *run, const char *name, struct pairs *pairs)
{
    char csv[MCS_PATH_BYTES], images[MCS_PATH_BYTES];
    MCS_TRY(mcs_path(csv, "%s/data/%s/pairs.csv", run->o->output, name));
    MCS_TRY(mcs_path(images, "%s/data/%s/images", run->o->output, name));
    const struct pairs_options po = {.image_folder = images};
    return mcs_pairs_read(csv, &po, pairs);
}

struct finetune_task {
    const struct demo_options *o;
    const struct pairs *pairs;
    struct clip_train_options train;
};

static enum mcs_status finetune(const struct finetune_task *task, struct clip_model *m, struct comm *comm)
{
    struct pair_source source = {0};
    struct clip_train_options t = task->train;
    enum mcs_status st;
    t.comm = comm;
    MCS_TRY_GOTO(mcs_pair_source_open(&source, task->pairs, &m->config, t.batch, 0.9, t.seed), st, done);
    st = mcs_clip_train(m, &t, &(struct clip_source){mcs_pair_source_fill, &source}, NULL);
done:
    mcs_pair_source_close(&source);
    return st;
}

/* Runs one of --gpus ranks. Each rank has a copy of the model; rank 0 writes it. */
static enum mcs_status finetune_rank(void *ctx, const struct process_group *group)
{
    const struct finetune_task *task = ctx;
    struct clip_model m = {0};
    char folder[MCS_PATH_BYTES];
    enum mcs_status st;
    MCS_TRY(mcs_path(folder, "%s/model", task->train.run));
    MCS_TRY(mcs_clip_model_open(task->o->clip, group->device, &m));
    MCS_TRY_GOTO(finetune(task, &m, group->comm), st, done);
    if (group->rank == 0) st = mcs_clip_model_save(&m, folder, 0);
done:
    mcs_clip_model_close(&m);
    return st;
}

enum mcs_status mcs_demo_finetune(struct demo_run *run)
{
    const struct demo_options *o = run->o;
    struct pairs train = {0}, test = {0};
    struct recall_options recall = mcs_recall_defaults();
    char folder[MCS_PATH_BYTES], model[MCS_PATH_BYTES];
    enum mcs_status st;
    MCS_TRY(mcs_path(folder, "%s/finetune", o->output));
    MCS_TRY(mcs_path(model, "%s/model", folder));
    MCS_TRY(read_pairs(run, "test", &test));
    struct pairs measured = test; /* view of the first pairs; `test` owns them */
    if (measured.n > o->retrieval_images) measured.n = (int)o->retrieval_images;
    MCS_TRY_GOTO(mcs_retrieve(&run->clip, &measured, CLIP_VIEW_WHOLE, &recall, &run->r.before), st, done);
    MCS_TRY_GOTO(read_pairs(run, "train", &train), st, done);
    struct finetune_task task = {o,
                                 &train,
                                 {.batch = o->finetune_batch,
                                  .steps = o->finetune_steps,
                                  .warmup = o->finetune_warmup,
                                  .checkpoint_every = o->checkpoint_every,
                                  .lr = o->finetune_lr,
                                  .weight_decay = 0.05,
                                  .clip_norm = 1,
                                  .loss = {.b_image = (float)o->finetune_beta,
                                           .b_text = (float)o->finetune_beta,
                                           .inv_tau = (float)(1 / o->finetune_temperature),
                                           .released = o->form[MCS_FORM_LOSS] == MCS_RELEASE},
                                  .seed = (uint64_t)o->seed,
                                  .diagnose = 1,
                                  .run = folder,
                                  .config = run->config}};
    if (o->gpus > 1) {
        const struct process_group_options group = {
            .device = &o->device, .gpus = o->gpus, .run = folder, .config = task.train.config};
        MCS_TRY_GOTO(mcs_folder_make(folder), st, done);
        MCS_TRY_GOTO(mcs_process_group_run(&group, finetune_rank, &task), st, done);
        mcs_clip_model_close(&run->clip);
        MCS_TRY_GOTO(mcs_clip_model_open(model, &run->device, &run->clip), st, done);
    } else {
        MCS_TRY_GOTO(finetune(&task, &run->clip, NULL), st, done);
        MCS_TRY_GOTO(mcs_clip_model_save(&run->clip, model, 0), st, done);
    }
    st = mcs_retrieve(&run->clip, &measured, CLIP_VIEW_WHOLE, &recall, &run->r.after);
done:
    mcs_pairs_free(&train);
    mcs_pairs_free(&test);
    return st;
}
