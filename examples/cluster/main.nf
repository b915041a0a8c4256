// A dataset in shards, with Nextflow (DSL 2):
//
//   nextflow run main.nf --images /data/images --labels /data/labels --out /data/scores --shards 32 -resume
//
// All paths absolute, on a disk that every machine sees. A task that failed is tried again and goes on where it was.

params.images = null
params.labels = null
params.out = null
params.shards = 8

process SCAN {
    cpus 2
    memory '8 GB'
    errorStrategy 'retry'
    maxRetries 3

    input:
    val i

    output:
    val i

    script:
    """
    panimbus predict ${params.images} --labels ${params.labels} --out ${params.out} --precision float32 \
        --threads ${task.cpus} --shard ${i}/${params.shards} --stage scan
    """
}

process SCORE {
    cpus 2
    memory '8 GB'
    errorStrategy 'retry'
    maxRetries 3

    input:
    val i
    val scanned

    output:
    val i

    script:
    """
    panimbus predict ${params.images} --labels ${params.labels} --out ${params.out} --precision float32 \
        --threads ${task.cpus} --shard ${i}/${params.shards}
    """
}

process MERGE {
    memory '16 GB'

    input:
    val scored

    output:
    stdout

    script:
    """
    panimbus merge ${params.out}
    """
}

workflow {
    if (!params.images || !params.labels || !params.out) {
        error 'pass --images, --labels and --out'
    }
    shards = Channel.of(1..(params.shards as int))
    scanned = SCAN(shards).collect()
    scored = SCORE(shards, scanned).collect()
    MERGE(scored).view()
}
