import KokoroBundle

/// Inputs and outputs of the tiny network: names and types of the real one, but fewer channels.
struct TinyPorts {
    typealias Port = (name: String, type: Manifest.ElementType, shape: [Int])

    let inputs: [Port]
    let outputs: [Port]

    private static let longest = TinyBundle.maxPhonemes + 2
    private static let style: Port = ("ref_s", .float32, [1, TinyBundle.styleColumns])
    private static let speed: Port = ("speed", .float32, [1])
    private static let phases: Port = ("random_phases", .float32, [1, 9])
    private static let frameCount: Port = ("frames", .int32, [1])
    private static let timed: [Port] = [
        ("d", .float32, [1, longest, 3]), ("text", .float32, [1, 2, longest]),
        ("pred_dur", .int32, [1, longest]),
    ]

    static func json(_ ports: [Port]) -> String {
        ports.map { name, type, shape in
            #"{"name": "\#(name)", "dtype": "\#(type.rawValue)", "shape": \#(shape)}"#
        }.joined(separator: ", ")
    }

    static func complete(_ shape: Bucket) -> TinyPorts {
        let tokens = [1, shape.tokens]
        return TinyPorts(
            inputs: [
                ("input_ids", .int32, tokens), ("attention_mask", .int32, tokens), style, phases,
                speed,
            ],
            outputs: [
                ("audio", .float32, [1, 1, TinyBundle.samplesPerFrame * shape.frames]),
                ("audio_length_samples", .int32, [1]), ("pred_dur", .int32, tokens),
            ])
    }

    static func pipeline(_ stage: PipelineStage, _ size: Int) -> TinyPorts {
        switch stage {
        case .encoder:
            return TinyPorts(
                inputs: [
                    ("input_ids", .float32, [1, 1, 1, size]),
                    ("attention_mask", .float32, [1, 1, 1, size]),
                ], outputs: [encoded(size)])
        case .duration:
            return TinyPorts(
                inputs: [
                    encoded(size), ("input_ids", .int32, [1, size]),
                    ("attention_mask", .int32, [1, size]), style, speed,
                ], outputs: timed + styles("decoder") + styles("generator"))
        case .prosody:
            return TinyPorts(
                inputs: timed + [style], outputs: [pitch(size)] + aligned(size))
        case .decoder:
            return TinyPorts(
                inputs: aligned(size) + styles("decoder"), outputs: [features(size)])
        case .source:
            let noise = [1, 2 * size, TinyBundle.samplesPerFrame / 2]
            return TinyPorts(
                inputs: [pitch(size), frameCount, phases, ("noise", .float32, noise)],
                outputs: source(size))
        case .generator:
            return TinyPorts(
                inputs: [features(size)] + source(size) + styles("generator"),
                outputs: [hidden(size)])
        case .tail:
            return TinyPorts(
                inputs: [hidden(size), frameCount],
                outputs: [("audio", .float32, [1, TinyBundle.samplesPerFrame * size])])
        }
    }

    private static func encoded(_ size: Int) -> Port { ("encoded", .float32, [1, 2, 1, size]) }

    private static func pitch(_ size: Int) -> Port { ("f0", .float32, [1, 2 * size]) }

    private static func features(_ size: Int) -> Port { ("features", .float16, [1, 3, 2, size]) }

    private static func hidden(_ size: Int) -> Port { ("hidden", .float16, [1, 2, 2, 5 * size]) }

    private static func styles(_ stage: String) -> [Port] {
        ["scale", "shift"].map { ("\(stage)_\($0)", .float16, [1, 7, 1, 1]) }
    }

    private static func aligned(_ size: Int) -> [Port] {
        [
            ("curves", .float16, [1, 2, 1, size]), ("levels", .float16, [1, 2, 1, 1]),
            ("asr", .float16, [1, 3, 1, size]), ("frame_mask", .float16, [1, 1, 1, size]),
        ]
    }

    private static func source(_ size: Int) -> [Port] {
        let rows: [Port] = [1, 2].flatMap { i -> [Port] in
            [
                ("valid_\(i)", .float16, [1, 1, 2, i * size]),
                ("own_\(i)", .float16, [1, 1, 2, i * size]),
                ("share_\(i)", .float16, [1, 1, 1, 1]),
            ]
        }
        return [("har", .float16, [1, 2, 2, 5 * size])] + rows
    }
}
