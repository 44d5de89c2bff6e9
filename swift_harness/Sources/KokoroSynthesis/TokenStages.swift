// In the shapes T is the token bucket, M the longest text in tokens; the numbers are Kokoro-82M's.
// What holds is the manifest.

/// What `Encoder` takes.
public struct EncoderInput: StageInput {
    /// Token ids, float32 [1, 1, 1, T]; a zero in front and behind, then 0.
    public let inputIDs: Tensor
    /// 1 for the ids and their zeros, then 0; float32 [1, 1, 1, T].
    public let attentionMask: Tensor

    /// Arrays of the shapes and types above.
    public init(inputIDs: Tensor, attentionMask: Tensor) {
        self.inputIDs = inputIDs
        self.attentionMask = attentionMask
    }

    /// By the packages' names.
    public var tensors: [String: Tensor] {
        [
            "input_ids": inputIDs,
            "attention_mask": attentionMask,
        ]
    }
}

/// What `Encoder` gives.
public struct EncoderOutput: StageOutput {
    /// ALBERT's output behind its projection, float32 [1, 512, 1, T].
    public let encoded: Tensor

    /// Takes them out of what the stage gave.
    ///
    /// - Throws: `KokoroError.package` if one is missing.
    public init(_ outputs: NamedTensors) throws {
        encoded = try outputs.tensor("encoded")
    }
}

/// What `Duration` takes.
public struct DurationInput: StageInput {
    /// From `Encoder`: float32 [1, 512, 1, T].
    public let encoded: Tensor
    /// Token ids, int32 [1, T]; a zero in front and behind, then 0.
    public let inputIDs: Tensor
    /// 1 for the ids and their zeros, then 0; int32 [1, T].
    public let attentionMask: Tensor
    /// One row of a voice, float32 [1, 256].
    public let style: Tensor
    /// 1 is the voice's own pace, 2 twice as fast; float32 [1].
    public let speed: Tensor

    /// Arrays of the shapes and types above.
    public init(
        encoded: Tensor, inputIDs: Tensor, attentionMask: Tensor, style: Tensor, speed: Tensor
    ) {
        self.encoded = encoded
        self.inputIDs = inputIDs
        self.attentionMask = attentionMask
        self.style = style
        self.speed = speed
    }

    /// By the packages' names.
    public var tensors: [String: Tensor] {
        [
            "encoded": encoded,
            "input_ids": inputIDs,
            "attention_mask": attentionMask,
            "ref_s": style,
            "speed": speed,
        ]
    }
}

/// What `Duration` gives.
public struct DurationOutput: StageOutput {
    /// The predictor's text encoder, float32 [1, M, 640]; 0 behind the tokens.
    public let encodedText: Tensor
    /// The decoder's text encoder, float32 [1, 512, M]; 0 behind the tokens.
    public let text: Tensor
    /// Frames per token, int32 [1, M]; 0 behind the tokens.
    public let durations: Tensor
    /// Gains of the decoder's normalisations, float16 [1, 9482, 1, 1].
    public let decoderScale: Tensor
    /// Offsets of the decoder's normalisations, float16 [1, 9482, 1, 1].
    public let decoderShift: Tensor
    /// Gains of the generator's normalisations, float16 [1, 9216, 1, 1].
    public let generatorScale: Tensor
    /// Offsets of the generator's normalisations, float16 [1, 9216, 1, 1].
    public let generatorShift: Tensor

    /// Takes them out of what the stage gave.
    ///
    /// - Throws: `KokoroError.package` if one is missing.
    public init(_ outputs: NamedTensors) throws {
        encodedText = try outputs.tensor("d")
        text = try outputs.tensor("text")
        durations = try outputs.tensor("pred_dur")
        decoderScale = try outputs.tensor("decoder_scale")
        decoderShift = try outputs.tensor("decoder_shift")
        generatorScale = try outputs.tensor("generator_scale")
        generatorShift = try outputs.tensor("generator_shift")
    }
}
