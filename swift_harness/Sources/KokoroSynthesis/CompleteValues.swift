/// What the whole network takes.
public struct CompleteInput: StageInput {
    /// Token ids, int32 [1, T]; a zero in front and behind, then 0.
    public let inputIDs: Tensor
    /// 1 for the ids and their zeros, then 0; int32 [1, T].
    public let attentionMask: Tensor
    /// One row of a voice, float32 [1, 256].
    public let style: Tensor
    /// Start of each harmonic in cycles, float32 [1, 9]; zeros are the original network.
    public let randomPhases: Tensor
    /// 1 is the voice's own pace, 2 twice as fast; float32 [1].
    public let speed: Tensor

    /// Arrays of the shapes and types above.
    public init(
        inputIDs: Tensor, attentionMask: Tensor, style: Tensor, randomPhases: Tensor, speed: Tensor
    ) {
        self.inputIDs = inputIDs
        self.attentionMask = attentionMask
        self.style = style
        self.randomPhases = randomPhases
        self.speed = speed
    }

    /// By the packages' names.
    public var tensors: [String: Tensor] {
        [
            "input_ids": inputIDs,
            "attention_mask": attentionMask,
            "ref_s": style,
            "random_phases": randomPhases,
            "speed": speed,
        ]
    }
}

/// What the whole network gives.
public struct CompleteOutput: StageOutput {
    /// Samples, float32 [1, 1, 600 F]; silent behind the speech.
    public let audio: Tensor
    /// Samples of speech, int32 [1]; more than the audio holds says that the bucket was too short.
    public let length: Tensor
    /// Frames per token, int32 [1, T]; 0 behind the tokens.
    public let durations: Tensor

    /// Takes them out of what the stage gave.
    ///
    /// - Throws: `KokoroError.package` if one is missing.
    public init(_ outputs: NamedTensors) throws {
        audio = try outputs.tensor("audio")
        length = try outputs.tensor("audio_length_samples")
        durations = try outputs.tensor("pred_dur")
    }
}
